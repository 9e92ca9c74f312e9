"""How measured numbers become a verdict.

A claim says that one or several quantities theta_1 .. theta_k (its *parts*) lie in a region. Each part is
measured once a seed, and its mean is given a 90 % two-sided Student t interval [L, U]:

- **reproduced**: every part's [L, U] lies in the region. Each edge is then a one-sided t test at 5 %, so an
  upper edge alone is a non-inferiority test, two edges are the two one-sided tests (TOST) of equivalence, and
  several parts are an intersection-union test (Berger, 1982): all must pass, and no correction is due.
- **refuted**: some part's interval lies wholly outside, after correction for the looks taken. A part's
  refutation p is that of the one-sided t test against the edge that its mean has crossed; a claim of k parts
  has min(1, k min p) (Bonferroni), and Holm's procedure (1979) keeps the chance of any false refutation in
  the whole suite at 5 %, whatever the dependence between claims that share runs.
- **inconclusive**: anything else, always so with one seed; the number of seeds that would decide it is given.

A region's edges belong to it. Between two edges closer than about three standard errors both sides can be
crossed by chance, and the 5 % of a false refutation rises, to 10 % for a region that is one point.

The t interval is exact for normal errors at any n. Identical samples of something counted, such as correct
images, do not say that seeds never differ: their sd is taken as one step of the count. A bootstrap is not offered:
resampling 3 to 10 seeds knows nothing of the tails, and its nominal 95 % interval covers 75 to 88 %.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from pytest_claims.limits import MOST_SEEDS

ERROR_RATE = 0.05
"""One-sided: of a false *reproduced* at an edge, and of any false *refuted* in the suite."""


class Verdict(StrEnum):
    """What the measurements say about a claim."""

    REPRODUCED = "reproduced"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"
    """The claim's number was published for other data than were measured."""


@dataclass(frozen=True)
class Region:
    """The values that a claim allows, both edges included, in the unit of what is claimed.

    Raises:
        ValueError: an edge is NaN, the edges are out of order, or there is no edge at all.
    """

    lower: float = -math.inf
    upper: float = math.inf

    def __post_init__(self) -> None:
        if not self.lower <= self.upper:
            raise ValueError(f"region [{self.lower}, {self.upper}]: the edges should be numbers in order")
        if math.isinf(self.lower) and math.isinf(self.upper):
            raise ValueError(f"region [{self.lower}, {self.upper}]: at least one edge should be finite")

    def contains(self, lower: float, upper: float) -> bool:
        """Whether all of the interval [lower, upper] is allowed."""
        return self.lower <= lower and upper <= self.upper

    def distance(self, value: float) -> float:
        """How far outside `value` lies; negative inside, by the distance to the nearest edge."""
        return max(value - self.upper, self.lower - value)


@dataclass(frozen=True)
class Estimate:
    """One quantity over seeds, in the unit of its samples.

    Attributes:
        mean: sample mean.
        sd: standard deviation with n - 1 in the denominator, a step of the count where all samples are the same;
            None for a single sample or an exact number.
        n: number of samples, one a seed.
        lower: lower end of the 90 % two-sided t interval of the mean; -inf for a single sample.
        upper: upper end, likewise.
    """

    mean: float
    sd: float | None
    n: int
    lower: float
    upper: float


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    Attributes:
        verdict: the verdict.
        estimates: one for each part of the claim, in order.
        p_refuted: p value of the refutation, corrected for the claim's parts and for the suite's claims.
        seeds_needed: for an inconclusive claim, the fewest seeds that would decide it if every mean and sd
            stayed and nothing else in the suite changed; None if decided, beyond `MOST_SEEDS`, or unknown
            (one seed has no sd).
    """

    verdict: Verdict
    estimates: tuple[Estimate, ...]
    p_refuted: float
    seeds_needed: int | None = None


def estimate(samples: Sequence[float], step: float = 0.0) -> Estimate:
    """Mean and 90 % two-sided Student t interval, mean +- t(0.95, n - 1) sd / sqrt(n).

    A single sample has the interval [-inf, inf].

    Args:
        samples: one finite number a seed.
        step: of what the samples count, in their unit: the sd of identical ones; 0 if they count nothing.

    Raises:
        ValueError: no samples, or one that is not finite.
    """
    _check_samples(samples)
    n = len(samples)
    if n == 1:
        return Estimate(samples[0], None, 1, -math.inf, math.inf)
    if min(samples) == max(samples):
        mean, sd = samples[0], step
    else:
        mean = math.fsum(samples) / n
        sd = math.hypot(*(sample - mean for sample in samples)) / math.sqrt(n - 1)
    half = _half_width(sd, n)
    return Estimate(mean, sd, n, mean - half, mean + half)


def judge(parts: Sequence[Sequence[float]], region: Region, step: float = 0.0) -> Judgement:
    """Judge one claim by itself: a family of one.

    Args:
        parts: for each part its samples, one a seed; paired quantities are already differences.
        region: where every part should lie.
        step: of what the samples count; see `estimate`.

    Raises:
        ValueError: no parts, no samples, or a sample that is not finite.
    """
    return judge_suite({"claim": (parts, region)}, family_size=1, steps={"claim": step})["claim"]


def judge_suite(
    suite: Mapping[str, tuple[Sequence[Sequence[float]], Region]],
    family_size: int,
    steps: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Judgement]:
    """Judge the measured claims of a suite, their refutations corrected by Holm over the whole family.

    Args:
        suite: claim id -> (parts, region), as for `judge`.
        family_size: number of statistical claims in the family; those not in `suite` have no runs yet and
            count with p = 1, so that a refutation cannot be had by judging few claims at a time.
        steps: claim id -> the step of what its samples count; see `estimate`.

    Returns:
        claim id -> judgement, in the suite's order.

    Raises:
        ValueError: the family is smaller than the suite, or a claim has no parts or bad samples.
    """
    if family_size < len(suite):
        raise ValueError(f"family_size is {family_size}, should be at least the {len(suite)} claims to judge")
    estimates = {name: _estimates(name, parts, steps.get(name, 0.0)) for name, (parts, _) in suite.items()}
    alone = [_p_claim(estimates[name], region) for name, (_, region) in suite.items()]
    rejected, corrected = _holm(alone, family_size)
    # What Holm still asks of any claim that it did not reject.
    level = ERROR_RATE / max(1, family_size - sum(rejected))
    return {
        name: _judgement(estimates[name], region, refuted, p, level)
        for (name, (_, region)), refuted, p in zip(suite.items(), rejected, corrected, strict=True)
    }


def judge_exact(parts: Sequence[Sequence[float]], region: Region) -> Judgement:
    """Judge numbers that are known without error, such as parameter counts: no inconclusive, no interval.

    Args:
        parts: for each part its value; several values (of several seeds) must all lie in the region.
        region: where every part should lie.

    Returns:
        The judgement; an estimate's lower and upper are its least and greatest value.

    Raises:
        ValueError: no parts, no values, or a value that is not finite.
    """
    if not parts:
        raise ValueError("a claim should have at least one part to judge, got none")
    estimates = tuple(_exact(values) for values in parts)
    holds = all(region.contains(part.lower, part.upper) for part in estimates)
    return Judgement(Verdict.REPRODUCED if holds else Verdict.REFUTED, estimates, 1.0 if holds else 0.0)


def _check_samples(samples: Sequence[float]) -> None:
    if not samples:
        raise ValueError("at least one sample is needed, got none")
    for seed, sample in enumerate(samples):
        if not math.isfinite(sample):
            raise ValueError(f"sample {seed} is {sample}, should be a finite number")


def _exact(values: Sequence[float]) -> Estimate:
    _check_samples(values)
    return Estimate(math.fsum(values) / len(values), None, len(values), min(values), max(values))


def _estimates(name: str, parts: Sequence[Sequence[float]], step: float) -> tuple[Estimate, ...]:
    if not parts:
        raise ValueError(f"{name}: a claim should have at least one part to judge, got none")
    try:
        return tuple(estimate(samples, step) for samples in parts)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _judgement(
    estimates: tuple[Estimate, ...], region: Region, refuted: bool, p_refuted: float, level: float
) -> Judgement:
    if all(region.contains(part.lower, part.upper) for part in estimates):
        return Judgement(Verdict.REPRODUCED, estimates, p_refuted)
    if refuted:
        return Judgement(Verdict.REFUTED, estimates, p_refuted)
    return Judgement(Verdict.INCONCLUSIVE, estimates, p_refuted, _seeds_needed(estimates, region, level))


def _half_width(sd: float, n: int) -> float:
    """Half of the 90 % two-sided t interval."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 1 - ERROR_RATE)) * sd / math.sqrt(n)


def _p_outside(part: Estimate, region: Region, n: int) -> float:
    """One-sided p of "theta is outside, on the side where the mean is", had the part n samples."""
    from scipy.special import stdtr

    distance = region.distance(part.mean)
    if part.sd is None or distance <= 0:
        return 1.0
    return float(stdtr(n - 1, -distance / part.sd * math.sqrt(n))) if part.sd else 0.0


def _p_claim(estimates: Sequence[Estimate], region: Region, n: int | None = None) -> float:
    """Bonferroni over the parts, as they were sampled or had each n samples."""
    return min(1.0, len(estimates) * min(_p_outside(part, region, n or part.n) for part in estimates))


def _holm(p_values: Sequence[float], family_size: int) -> tuple[list[bool], list[float]]:
    """Which of the claims Holm (1979) rejects, and their corrected p values.

    The i-th smallest p, from 0, counts family_size - i times, and never less than a smaller one. Not by statsmodels,
    whose import alone would take a sixth of a session that has its runs.
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (family_size - rank) * p_values[index]))
        corrected[index] = least
    return [p <= ERROR_RATE for p in corrected], corrected


def _seeds_needed(estimates: Sequence[Estimate], region: Region, level: float) -> int | None:
    """The least n at which all intervals lie inside, or the claim's own p is at most `level`."""

    def decides(n: int) -> bool:
        inside = all(part.sd is not None and _fits(part.mean, part.sd, region, n) for part in estimates)
        return inside or _p_claim(estimates, region, n) <= level

    # More seeds narrow every interval and lower every p, so what decides at n decides beyond it.
    needed = 2 + bisect_left(range(2, MOST_SEEDS + 1), True, key=decides)
    return needed if needed <= MOST_SEEDS else None


def _fits(mean: float, sd: float, region: Region, n: int) -> bool:
    half = _half_width(sd, n)
    return region.contains(mean - half, mean + half)
