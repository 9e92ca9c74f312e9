"""From a finding to the outcome of its test, by what is recorded."""

from enum import StrEnum

from pytest_claims.suite.judging import Finding
from pytest_claims.verdicts.verdict import Verdict


class Outcome(StrEnum):
    """What a test of a claim can end with."""

    PASSED = "passed"
    FAILED = "failed"
    XFAILED = "xfailed"
    SKIPPED = "skipped"
    EQUAL = "equal"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


def recorded_verdict(finding: Finding, profile: str) -> Verdict | None:
    """The verdict that `expected_results.json` holds for a profile."""
    recorded = finding.claim.recorded.get(profile)
    return recorded.verdict if recorded else None


def outcome(finding: Finding, recorded: Verdict | None, *, strict: bool) -> Outcome:
    """Decides the outcome: of a claim that is decided, only the opposite of what is recorded fails.

    Practical equality is the opposite of nothing: a difference may be small, and on either side for sure.

    Args:
        finding: What was found.
        recorded: The verdict that is recorded.
        strict: Whether an inconclusive claim fails.
    """
    match finding.verdict:
        case None:
            return Outcome.ERROR
        case Verdict.NOT_APPLICABLE:
            return Outcome.SKIPPED
        case Verdict.INCONCLUSIVE:
            return Outcome.FAILED if strict else Outcome.INCONCLUSIVE
        case Verdict.REPRODUCED:
            return Outcome.FAILED if recorded is Verdict.REFUTED else Outcome.PASSED
        case Verdict.REFUTED:
            known = recorded in (Verdict.REFUTED, Verdict.EQUAL, Verdict.INCONCLUSIVE)
            return Outcome.XFAILED if known else Outcome.FAILED
        case Verdict.EQUAL:
            return Outcome.EQUAL


def beside_record(recorded: Verdict | None, profile: str) -> str:
    """How a reason ends: what is recorded."""
    if recorded is None:
        return f"nothing is recorded for profile {profile} (--record writes it)"
    return f"recorded: {recorded}"
