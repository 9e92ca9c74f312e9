"""Waits for other processes that make runs, and tells one that works from one that hangs."""

import time
from collections.abc import Sequence
from pathlib import Path

from pytest_claims.store import Store, StoreError
from pytest_claims.suite.planning import PlannedRun

PATIENCE_SECONDS = 1800.0
"""Who holds a run's lock leaves a checkpoint about every minute of training; without one for so long, it hangs."""


class Patience:
    """Waits for those who make what is left, as long as they show progress."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: object = None
        self._since = 0.0

    def wait_for(self, ready: Sequence[PlannedRun]) -> str:
        """Who makes the first of the runs, for people.

        Raises:
            StoreError: For too long none of them has had a new checkpoint, nor have they become others.
        """
        holder = next((str(owner) for run in ready if (owner := self._store.lock(run.key).owner())), "another session")
        seen = [(run.key, _changed(self._store.checkpoint(run.key))) for run in ready]
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        elif time.monotonic() - self._since > PATIENCE_SECONDS:
            raise StoreError(
                f"{ready[0].run.title}: {holder} makes it and has shown no progress for {PATIENCE_SECONDS / 60:.0f} "
                "min; end that process if it hangs, and start again"
            )
        return holder


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
