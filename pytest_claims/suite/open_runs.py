"""Which of a plan's runs are still to be made."""

from collections.abc import Iterable
from enum import StrEnum

from pytest_claims.store import Store
from pytest_claims.suite.planning import Plan, PlannedRun


class RunState(StrEnum):
    """How far a run is; `BLOCKED` is one that is made from a failed one, at whatever remove."""

    DONE = "done"
    WAITING = "to make"
    FAILED = "failed"
    BLOCKED = "blocked"


class OpenRuns:
    """What a process knows of a plan's runs; what is finished is read only once, and stays so unless it is lost."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self.plan = plan
        self._finished: set[str] = set()

    def states(self) -> dict[str, RunState]:
        """How far each run is, by key; parents before children."""
        states: dict[str, RunState] = {}
        for key, planned in self.plan.runs.items():
            states[key] = self._state(key, {states[p] for p in planned.parents.values() if p in states})
        return states

    def _state(self, key: str, parents: set[RunState]) -> RunState:
        if self._is_finished(key):
            return RunState.DONE
        if self._store.failure(key):
            return RunState.FAILED
        return RunState.BLOCKED if parents & {RunState.FAILED, RunState.BLOCKED} else RunState.WAITING

    def waiting(self) -> list[PlannedRun]:
        """The runs that are neither finished nor failed, nor blocked by a failed one; parents before children."""
        return [self.plan.runs[key] for key, state in self.states().items() if state is RunState.WAITING]

    def ready(self, waiting: Iterable[PlannedRun]) -> list[PlannedRun]:
        """Those of the waiting runs whose parents are all finished, in the order in which to begin them.

        Whoever makes runs takes the one with the longest remaining path first.
        """
        ready = [planned for planned in waiting if all(map(self._is_finished, planned.parents.values()))]
        return sorted(ready, key=lambda planned: -planned.remaining)

    def lose(self, keys: Iterable[str]) -> None:
        """Takes in that finished runs are no more: damaged, or removed by somebody."""
        self._finished.difference_update(keys)

    def _is_finished(self, key: str) -> bool:
        if key not in self._finished and self._store.load(key) is not None:
            self._finished.add(key)
        return key in self._finished
