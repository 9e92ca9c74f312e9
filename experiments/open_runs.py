"""Which of a plan's runs are still to be made."""

from experiments.planning import Plan, PlannedRun
from experiments.store import Store


class OpenRuns:
    """What a process knows of a plan's runs; what is finished stays so, and is read only once."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self._plan = plan
        self._finished: set[str] = set()

    def waiting(self) -> list[PlannedRun]:
        """The runs that are neither finished nor failed, nor blocked by a failed one; parents before children."""
        failed: set[str] = set()
        waiting = []
        for key, planned in self._plan.runs.items():
            if self._is_finished(key):
                continue
            if self._store.failure(key) or failed.intersection(planned.parents.values()):
                failed.add(key)
            else:
                waiting.append(planned)
        return waiting

    def is_ready(self, planned: PlannedRun) -> bool:
        """Whether all parents are finished."""
        return all(self._is_finished(parent) for parent in planned.parents.values())

    def _is_finished(self, key: str) -> bool:
        if key not in self._finished and self._store.load(key) is not None:
            self._finished.add(key)
        return key in self._finished
