"""Which claims get more seeds, and when it is enough.

After the first look seeds are added only for claims that are not decided, the cheapest decision first: the one that
takes the least time to reach the look at which the claim would be decided if its means and standard deviations stayed.
No claim gets more seeds unless the look that would decide it is expected in the time that is left. The time is that of
making runs, in this session and earlier ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_claims.claims.claim import Claim
from pytest_claims.suite.judging import Finding
from pytest_claims.suite.seed_counts import first, reached, wanted
from pytest_claims.suite.suite import Suite
from pytest_claims.verdicts.looks import Looks

_BATCH = 0.25
"""Of the time that is left, at most so much is spent before claims are judged again, unless one look takes more."""


@dataclass(frozen=True)
class Undecided:
    """A claim that more seeds may decide.

    Attributes:
        claim: The claim.
        next_look: Seeds of the next look.
        deciding: Seeds of the look that would decide it.
        seconds_to_decide: What the runs that this look lacks would take on one core.
    """

    claim: Claim
    next_look: int
    deciding: int
    seconds_to_decide: float


@dataclass(frozen=True)
class OpenClaims:
    """What more seeds are for.

    Attributes:
        claims: Those that they would decide, the cheapest decision first.
        seconds_left: Wall-clock time for making runs.
        jobs: Runs that are made side by side.
    """

    claims: Sequence[Undecided]
    seconds_left: float
    jobs: int

    def in_time(self) -> dict[str, bool]:
        """Return whether each claim would be decided in the time that is left, by id, one after the other."""
        decided, seconds = {}, 0.0
        for each in self.claims:
            seconds += each.seconds_to_decide / self.jobs
            decided[each.claim.id] = seconds <= self.seconds_left
        return decided


def undecided(findings: Mapping[str, Finding], suite: Suite, looks: Looks) -> list[Undecided]:
    """Return the claims that more seeds would decide, the cheapest decision first.

    Controls come before all others: what rests on one is not judged until it holds.
    """
    needed = {id_: found.judgement.seeds_needed for id_, found in findings.items() if found.judgement}
    open_claims = [_undecided(findings[id_], count, suite, looks) for id_, count in needed.items() if count is not None]
    return sorted(open_claims, key=lambda each: (not each.claim.is_control, each.seconds_to_decide))


def _undecided(found: Finding, deciding: int, suite: Suite, looks: Looks) -> Undecided:
    next_look = looks.after(max(map(len, found.runs.values()))).seeds
    return Undecided(
        found.claim, next_look, deciding, seconds_missing([found.claim], {found.claim.id: deciding}, suite)
    )


def seconds_missing(claims: Iterable[Claim], counts: Mapping[str, int], suite: Suite) -> float:
    """Return what the runs that the store lacks for some claims would take on one core.

    Args:
        claims: The claims.
        counts: How many seeds of each, by id.
        suite: Has store and estimates.
    """
    plan = suite.plan(wanted(claims, first(counts)))
    return sum(planned.effort for key, planned in plan.runs.items() if not suite.store.holds(key))


def seconds_spent(claims: Iterable[Claim], suite: Suite) -> float:
    """Return what the runs that claims are judged on have taken on one core, in whatever sessions.

    So a second session does not begin to count anew.
    """
    claims = list(claims)
    stored = suite.stored(suite.plan(wanted(claims, reached(claims, suite))))
    seconds = [run.provenance.get("seconds") for run in stored.values()]
    return sum(each for each in seconds if isinstance(each, int | float))


def next_batch(open_claims: Sequence[Undecided], suite: Suite, jobs: int, seconds_left: float) -> dict[str, int]:
    """Choose the claims whose next look comes now, cheapest decision first, and its seeds, by id; none if time is up.

    Args:
        open_claims: In the order of `undecided`.
        suite: Has store and estimates.
        jobs: Runs that are made side by side.
        seconds_left: Wall-clock time until no more seeds should be added.
    """
    batch: dict[str, int] = {}
    chosen: list[Claim] = []
    for each in (each for each in open_claims if each.seconds_to_decide / jobs <= seconds_left):
        seconds = seconds_missing([*chosen, each.claim], {**batch, each.claim.id: each.next_look}, suite) / jobs
        if seconds <= (_BATCH if batch else 1) * seconds_left:
            chosen.append(each.claim)
            batch[each.claim.id] = each.next_look
    return batch
