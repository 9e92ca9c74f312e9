"""Temporary files and folders that tell whether their maker still lives.

Each has a lock of the operating system beside it, taken before it is made and kept for as long as it is there; the
system frees the lock of a killed process. So what nobody holds was left behind, whatever its age.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = ".partial-"
_LOCK = ".lock"


@contextmanager
def partial(parent: Path) -> Iterator[Path]:
    """A new temporary name in a folder; whatever is there in the end, unless it was renamed, is removed.

    Raises:
        OSError: The folder cannot be written to.
    """
    parent.stat()  # the lock would silently make a folder that has vanished, such as one on a disk taken out
    path = parent / f"{_PREFIX}{uuid.uuid4().hex}"
    try:
        with FileLock(_lock_path(path)):
            try:
                yield path
            finally:
                with suppress(OSError):
                    delete(path)
    finally:
        _forget_lock(path)


def is_partial(name: str) -> bool:
    """Whether a name in a folder is temporary, or the lock of such a one."""
    return name.startswith(_PREFIX)


def abandoned(parent: Path) -> list[Path]:
    """The temporary files and folders of processes that have ended.

    A lock alone is not told of: its maker may be about to take it.
    """
    paths = sorted(path for path in parent.glob(f"{_PREFIX}*") if path.suffix != _LOCK)
    return [path for path in paths if not _is_held(path) and os.path.lexists(path)]


def remove_abandoned(path: Path) -> None:
    """Removes what `abandoned` found, unless another process is about to.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        with FileLock(_lock_path(path)).acquire(blocking=False):
            delete(path)
    except Timeout:
        return
    _forget_lock(path)


def delete(path: Path) -> None:
    """Removes a file or a whole folder, a link but not what it leads to, or nothing if nothing is there.

    Raises:
        OSError: It cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):  # another process may be removing it, too
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + _LOCK)


def _is_held(path: Path) -> bool:
    # The lock outlives what it guards, so that none means none held. To take a missing one would create it.
    if not _lock_path(path).exists():
        return False
    try:
        with FileLock(_lock_path(path)).acquire(blocking=False):
            return False
    except Timeout:
        return True


def _forget_lock(path: Path) -> None:
    """Removes the lock of a name that nobody uses again: there is none to lose its turn."""
    with suppress(OSError):
        _lock_path(path).unlink()
