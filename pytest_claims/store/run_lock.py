"""The lock of a run, and who holds it.

The lock itself belongs to the operating system, which frees it when its process ends, however it ends. A note beside it
says who took it; the note of a killed process stays until the next holder, so ask for it only when the lock is held.
Lock files are never removed: whoever waits for one that another removes would hold a lock that nobody else sees. They
are empty, and at most as many as the runs that were ever begun.
"""

import json
import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from pytest_claims.store.errors import StoreError

SECONDS_TO_WAIT = 60.0
"""Far more than anything takes for which it is worth waiting; a run that another process makes is left to it."""


@dataclass(frozen=True)
class LockOwner:
    """The process that took a lock: its id, its machine and the time in ISO 8601."""

    process: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"


class LockHeldError(Timeout):
    """Another process holds the lock; the message says which."""

    def __init__(self, path: Path, owner: LockOwner | None) -> None:
        super().__init__(str(path))
        self.owner = owner

    def __str__(self) -> str:
        return f"{self.lock_file}: held by {self.owner or 'another process'}"


class RunLock:
    """An exclusive lock between processes, not to be taken twice by one."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)
        self._path = path

    def acquire(self, timeout: float = SECONDS_TO_WAIT, *, blocking: bool = True) -> ExitStack:
        """Takes the lock.

        Args:
            timeout: Seconds to wait for it.
            blocking: Whether to wait at all.

        Returns:
            A context that releases the lock when it is left.

        Raises:
            LockHeldError: Another process still holds it.
            StoreError: Its file cannot be written.
        """
        try:
            self._lock.acquire(timeout=timeout, blocking=blocking)
        except Timeout:
            raise LockHeldError(self._path, self.owner()) from None
        except OSError as error:
            raise StoreError(f"lock {self._path}: cannot be taken ({error.strerror or error})") from error
        self._sign()
        release = ExitStack()
        release.callback(self.release)
        return release

    def _sign(self) -> None:
        owner = LockOwner(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        with suppress(OSError):  # on a full disk the lock is as good without the note
            self._note.write_text(json.dumps(asdict(owner)), encoding="utf-8")

    def release(self) -> None:
        """Frees the lock, if it is held."""
        if self._lock.is_locked:  # else the note is another's
            with suppress(OSError):
                self._note.unlink()
        self._lock.release()

    def owner(self) -> LockOwner | None:
        """Who holds the lock, if it is held; None where that cannot be told."""
        try:
            fields = json.loads(self._note.read_text(encoding="utf-8"))
            return LockOwner(int(fields["process"]), str(fields["host"]), str(fields["since"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # half written as well: no part of a JSON object is JSON

    @property
    def _note(self) -> Path:
        # Not in the lock file: a process that waits may cut that short, and on Windows it cannot be read while held.
        return self._path.with_suffix(".owner")

    def __enter__(self) -> "RunLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
