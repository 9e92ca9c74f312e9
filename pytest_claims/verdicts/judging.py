"""Judges what was measured of claims, each by itself and all as a family."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pytest_claims.basics.limits import MOST_SEEDS
from pytest_claims.verdicts.estimates import Estimate, check_samples, estimate, exact_estimate, projected
from pytest_claims.verdicts.looks import ERROR_RATE, Look, Looks
from pytest_claims.verdicts.refutation import holm, p_refuted
from pytest_claims.verdicts.region import Region, equality_region
from pytest_claims.verdicts.verdict import Judgement, Verdict


@dataclass(frozen=True)
class Case:
    """What a claim is judged by.

    Attributes:
        parts: for each part its samples, one a seed, in the order in which seeds are added; paired quantities are
            already differences.
        region: where every part should lie.
        step: of what the samples count; see `estimate`.
        equality: the greatest difference that counts as none, in the unit of the parts; None where there is none.

    Raises:
        ValueError: the margin of equality is not a positive number.
    """

    parts: Sequence[Sequence[float]]
    region: Region
    step: float = 0.0
    equality: float | None = None

    def __post_init__(self) -> None:
        if self.equality is not None:
            equality_region(self.equality)


def judge(case: Case, looks: Looks | None = None) -> Judgement:
    """Judge one claim by itself: a family of one.

    Raises:
        ValueError: no parts, no samples, or a sample that is not finite.
    """
    return judge_suite({"claim": case}, family_size=1, looks=looks)["claim"]


def judge_suite(suite: Mapping[str, Case], family_size: int, looks: Looks | None = None) -> dict[str, Judgement]:
    """Judge the measured claims of a suite, their refutations corrected by Holm over the whole family.

    Args:
        suite: claim id -> what it is judged by.
        family_size: number of statistical claims in the family; those not in `suite` have no runs yet and
            count with p = 1, so that a refutation cannot be had by judging few claims at a time.
        looks: at which numbers of seeds claims are judged, where seeds are added; each claim is judged on as many as
            its last look takes, and one that has too few for the first is inconclusive. Without looks the number of
            seeds was fixed beforehand, and each claim is judged on all that it has.

    Returns:
        claim id -> judgement, in the suite's order.

    Raises:
        ValueError: the family is smaller than the suite, or a claim has no parts or bad samples.
    """
    if family_size < len(suite):
        raise ValueError(f"family_size is {family_size}, should be at least the {len(suite)} claims to judge")
    seen = {name: _seen(name, case, looks) for name, case in suite.items()}
    rejected, corrected = holm([each.p_refuted for each in seen.values()], family_size)
    # What Holm still asks of any claim that it did not reject.
    level = ERROR_RATE / max(1, family_size - sum(rejected))
    return {
        name: _judgement(each, refuted, p, level)
        for (name, each), refuted, p in zip(seen.items(), rejected, corrected, strict=True)
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
    estimates = tuple(exact_estimate(values) for values in parts)
    holds = _lie_in(region, estimates)
    return Judgement(Verdict.REPRODUCED if holds else Verdict.REFUTED, estimates, 1.0 if holds else 0.0)


@dataclass(frozen=True)
class _Seen:
    """What a look shows of a case.

    Attributes:
        case: The case.
        estimates: Of its parts.
        p_refuted: Corrected for the parts and the looks; 1 before the first look.
        looked: Whether there are seeds enough for a look.
        later: The looks that may follow.
    """

    case: Case
    estimates: tuple[Estimate, ...]
    p_refuted: float
    looked: bool
    later: Sequence[Look]


def _seen(name: str, case: Case, looks: Looks | None) -> _Seen:
    if not case.parts:
        raise ValueError(f"{name}: a claim should have at least one part to judge, got none")
    try:
        for samples in case.parts:
            check_samples(samples)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return _seen_once(case) if looks is None else _seen_at_a_look(case, looks)


def _seen_once(case: Case) -> _Seen:
    estimates = tuple(estimate(samples, case.step) for samples in case.parts)
    return _Seen(case, estimates, p_refuted(estimates, case.region, ERROR_RATE), True, _fixed_numbers())


def _seen_at_a_look(case: Case, looks: Looks) -> _Seen:
    seeds = min(map(len, case.parts))
    look = looks.reached(seeds)
    shown = look or looks.after(seeds)
    estimates = tuple(estimate(samples[: shown.seeds], case.step, shown.confidence) for samples in case.parts)
    p_value = p_refuted(estimates, case.region, look.level) if look else 1.0
    later = [other for other in looks.up_to() if other.seeds > seeds]
    return _Seen(case, estimates, p_value, look is not None, later)


@cache
def _fixed_numbers() -> tuple[Look, ...]:
    """Each number of seeds as what might have been fixed."""
    return tuple(map(Look, range(2, MOST_SEEDS + 1)))


def _judgement(seen: _Seen, refuted: bool, corrected: float, level: float) -> Judgement:
    verdict = _verdict(seen.case, seen.estimates, refuted) if seen.looked else Verdict.INCONCLUSIVE
    needed = _seeds_needed(seen, level) if verdict is Verdict.INCONCLUSIVE else None
    return Judgement(verdict, seen.estimates, corrected, needed)


def _verdict(case: Case, estimates: Sequence[Estimate], refuted: bool) -> Verdict:
    if _lie_in(case.region, estimates):
        return Verdict.REPRODUCED
    if refuted:
        return Verdict.REFUTED
    if case.equality is not None and _lie_in(equality_region(case.equality), estimates):
        return Verdict.EQUAL
    return Verdict.INCONCLUSIVE


def _lie_in(region: Region, estimates: Sequence[Estimate]) -> bool:
    return all(region.contains(part.lower, part.upper) for part in estimates)


def _seeds_needed(seen: _Seen, level: float) -> int | None:
    """The least number of seeds at which the claim is decided, its own p being refuted at `level`."""

    def decides(look: Look) -> bool:
        estimates = [projected(part, look) for part in seen.estimates]
        refuted = p_refuted(estimates, seen.case.region, look.level) <= level
        return _verdict(seen.case, estimates, refuted) is not Verdict.INCONCLUSIVE

    # A later look narrows every interval, and what decides at one decides at those after it.
    index = bisect_left(seen.later, True, key=decides)
    return seen.later[index].seeds if index < len(seen.later) else None
