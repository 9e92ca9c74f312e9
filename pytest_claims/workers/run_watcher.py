"""Follows the training of a run in a worker: tells how far it is, and keeps checkpoints."""

import time
from collections.abc import Callable
from pathlib import Path

from pytest_claims.training.checkpoints import (
    Checkpoint,
    CheckpointClock,
    CheckpointDamageError,
    read_checkpoint,
    remove_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from pytest_claims.training.training import Advance
from pytest_claims.training.training_state import Snapshot

SECONDS_BETWEEN_EVENTS = 0.5
"""Within an epoch; its end is always told."""


class RunWatcher:
    """A `Watcher` for one run; whoever makes it holds the run's lock.

    Args:
        path: Of the checkpoint.
        tell: Takes an event's name and fields.
        now: A clock in seconds that never goes back.
    """

    def __init__(self, path: Path, tell: Callable[..., None], now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._tell = tell
        self._now = now
        self._started = self._told = now()
        self._seconds_before = 0.0
        self._clock = CheckpointClock(now)

    @property
    def seconds(self) -> float:
        """That the run has taken, in all processes that worked on it."""
        return self._seconds_before + self._now() - self._started

    def resume(self) -> Snapshot | None:
        """The run's checkpoint; a damaged one is removed and told of, and the training starts anew."""
        remove_leftovers(self._path)
        try:
            checkpoint = read_checkpoint(self._path)
        except CheckpointDamageError as error:
            self._tell("warning", message=f"{error}; the run starts anew")
            remove_checkpoint(self._path)
            return None
        if checkpoint is None:
            return None
        self._seconds_before = checkpoint.seconds
        return checkpoint.snapshot

    def advance(self, advance: Advance, take_snapshot: Callable[[], Snapshot]) -> None:
        """Tells of an epoch's end, and of steps now and then; writes a checkpoint when one is due."""
        now, accuracy = self._now(), advance.epoch.accuracy if advance.epoch else None
        if advance.epoch or now - self._told >= SECONDS_BETWEEN_EVENTS:
            self._told = now
            self._tell("progress", share=advance.share, images=advance.images, accuracy=accuracy)
        if advance.share < 1 and self._clock.is_due(at_epoch_end=advance.epoch is not None):
            self._clock.time_writing(lambda: self._write(take_snapshot()))

    def _write(self, snapshot: Snapshot) -> None:
        """The training goes on without: a full disk is told of again, as an error, when the finished run is stored."""
        try:
            write_checkpoint(self._path, Checkpoint(snapshot, self.seconds))
        except OSError as error:
            self._tell("warning", message=f"{self._path}: cannot be written ({error.strerror})")

    def finish(self) -> None:
        """Removes the checkpoint of a run that is stored."""
        remove_checkpoint(self._path)
