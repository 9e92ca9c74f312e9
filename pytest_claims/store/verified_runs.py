"""A run store that verifies what has not changed only once."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from pytest_claims.store.run_store import Store
from pytest_claims.store.stored_run import StoredRun

_SETTLED_SECONDS = 2.0
"""File systems tell when a file changed to within this; a file younger than it may change unnoticed."""

_Stamp = tuple[tuple[str, int, int, int, int], ...]


class VerifyingOnce(Store):
    """A store that a session reads again and again: a run is hashed anew only if one of its files was touched.

    Whatever writes to a file, or puts another in its place, changes its time of status change, which no program can
    set; so altered bytes are found as they are by `Store`.
    """

    def __init__(self, root: Path, on_damage: Callable[[str], None] = lambda message: None) -> None:
        super().__init__(root, on_damage)
        self._verified: dict[str, tuple[_Stamp, StoredRun]] = {}

    def load(self, key: str) -> StoredRun | None:
        """Reads a run as `Store.load` does, or tells again what was read of it."""
        stamp = _stamp(self._folder(key))
        if stamp is not None and key in self._verified and self._verified[key][0] == stamp:
            return self._verified[key][1]
        self._verified.pop(key, None)
        began = time.time()
        run = super().load(key)
        if run is not None and stamp is not None and _changed(stamp) < began - _SETTLED_SECONDS:
            self._verified[key] = stamp, run
        return run


def _stamp(folder: Path) -> _Stamp | None:
    """Name, inode, size and times in nanoseconds of each file, taken before it is read; None if there is no folder."""
    try:
        with os.scandir(folder) as entries:
            statuses = sorted((entry.name, entry.stat()) for entry in entries)
    except OSError:
        return None
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in statuses)


def _changed(stamp: _Stamp) -> float:
    """When the last of the files changed, in seconds."""
    return max((max(times) / 1e9 for _, _, _, *times in stamp), default=0.0)
