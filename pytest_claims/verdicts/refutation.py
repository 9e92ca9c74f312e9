"""P values of refutations, corrected for a claim's parts, for its looks, and for the suite's claims."""

import math
from collections.abc import Sequence

from pytest_claims.verdicts.estimates import Estimate
from pytest_claims.verdicts.looks import ERROR_RATE
from pytest_claims.verdicts.region import Region


def p_refuted(estimates: Sequence[Estimate], region: Region, level: float) -> float:
    """P value of "some part lies outside": Bonferroni over the parts, and over the looks by their shares.

    A look that may spend `level` multiplies p by ERROR_RATE / level. The chance that this ever falls to x is then at
    most x, for every x: the look's share of x, summed over all looks. So p is valid whenever one stops.
    """
    smallest = min(_p_outside(part, region) for part in estimates)
    return min(1.0, len(estimates) * (ERROR_RATE / level) * smallest)


def _p_outside(part: Estimate, region: Region) -> float:
    """One-sided p of "theta is outside, on the side where the mean is"."""
    from scipy.special import stdtr

    distance = region.distance(part.mean)
    if part.sd is None or distance <= 0:
        return 1.0
    return float(stdtr(part.n - 1, -distance / part.sd * math.sqrt(part.n))) if part.sd else 0.0


def holm(p_values: Sequence[float], family_size: int) -> tuple[list[bool], list[float]]:
    """Which of the claims Holm (1979) rejects, and their corrected p values.

    The i-th smallest p, from 0, counts family_size - i times, and never less than a smaller one. Not by statsmodels,
    whose import alone would take a sixth of a session that has its runs.

    Args:
        p_values: of the claims that were judged.
        family_size: with the claims that were not, whose p is 1.
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (family_size - rank) * p_values[index]))
        corrected[index] = least
    return [p <= ERROR_RATE for p in corrected], corrected
