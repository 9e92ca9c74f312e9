"""What is said of a claim in the end."""

from dataclasses import dataclass
from enum import StrEnum

from pytest_claims.verdicts.estimates import Estimate


class Verdict(StrEnum):
    """What the measurements say about a claim."""

    REPRODUCED = "reproduced"
    REFUTED = "refuted"
    EQUAL = "practically equal"
    """Neither, but the difference is no larger than what the claim counts as none."""
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"
    """The claim's number was published for other data than were measured."""


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    Attributes:
        verdict: the verdict.
        estimates: one for each part of the claim, in order.
        p_refuted: p value of the refutation, corrected for the claim's parts and looks and for the suite's claims.
        seeds_needed: for an inconclusive claim, the fewest seeds, or the first later look, that would decide it if
            every mean and sd stayed and nothing else in the suite changed; None if decided, beyond `MOST_SEEDS`, or
            unknown (one seed has no sd).
    """

    verdict: Verdict
    estimates: tuple[Estimate, ...]
    p_refuted: float
    seeds_needed: int | None = None
