"""Watchers of trainings for tests."""

from collections.abc import Callable

from pytest_claims.training.training import Advance
from pytest_claims.training.training_state import Snapshot


class InterruptionError(Exception):
    """The training was to be interrupted here."""


class Recorder:
    """Remembers what it is told and the last snapshot; stops after some steps, if it is to."""

    def __init__(self, start: Snapshot | None = None, stop_after: int | None = None) -> None:
        self.start = start
        self.stop_after = stop_after
        self.told: list[Advance] = []
        self.snapshot: Snapshot | None = None

    def resume(self) -> Snapshot | None:
        return self.start

    def advance(self, advance: Advance, take_snapshot: Callable[[], Snapshot]) -> None:
        self.told.append(advance)
        self.snapshot = take_snapshot()
        if len(self.told) == self.stop_after:
            raise InterruptionError
