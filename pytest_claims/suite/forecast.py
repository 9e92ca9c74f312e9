"""What making the missing runs of a plan would take, without making any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_claims.store import Failure
from pytest_claims.suite.open_runs import OpenRuns, RunState
from pytest_claims.suite.planning import Plan, PlannedRun
from pytest_claims.suite.schedule import Slot, longest_path, schedule
from pytest_claims.suite.suite import Suite


@dataclass(frozen=True)
class Forecast:
    """A plan beside what the store has of it.

    Attributes:
        plan: All runs that are needed.
        states: How far each is, by key.
        failures: Why runs failed, by key.
        jobs: How many runs are made side by side.
        slots: The runs to make, in the order in which they would be started.
        evidence: How many earlier runs the estimates rest on.
    """

    plan: Plan
    states: Mapping[str, RunState]
    failures: Mapping[str, Failure]
    jobs: int
    slots: Sequence[Slot]
    evidence: int

    @property
    def cpu_seconds(self) -> float:
        """Of all runs to make."""
        return sum(slot.planned.effort for slot in self.slots)

    @property
    def wall_seconds(self) -> float:
        """Until the last run to make would end."""
        return max((slot.end for slot in self.slots), default=0.0)

    @property
    def longest_path(self) -> Sequence[PlannedRun]:
        """The chain of runs to make that takes longest, however many are made side by side."""
        made = {slot.planned.key for slot in self.slots}
        return longest_path([planned for key, planned in self.plan.runs.items() if key in made])


def forecast(suite: Suite, wanted: Mapping[str, Sequence[int]], jobs: int, *, retry_failed: bool) -> Forecast:
    """Compares a plan with the store, and plays the workers' loop with estimated durations.

    Args:
        suite: Gives plan, store and estimates.
        wanted: The seeds of each model.
        jobs: How many runs would be made side by side.
        retry_failed: Whether runs that failed before would be made again.
    """
    plan = suite.plan(wanted)
    states = OpenRuns(suite.store, plan).states()
    if retry_failed:
        states = {key: state if state is RunState.DONE else RunState.WAITING for key, state in states.items()}
    failed = {key: suite.store.failure(key) for key, state in states.items() if state is RunState.FAILED}
    failures = {key: failure for key, failure in failed.items() if failure is not None}
    waiting = [planned for key, planned in plan.runs.items() if states[key] is RunState.WAITING]
    jobs = min(jobs, max(1, len(waiting)))
    return Forecast(plan, states, failures, jobs, schedule(waiting, jobs), suite.estimator.evidence)
