"""What in a store nothing can need any more, and its removal.

Lock files stay, see `pytest_claims.store.run_lock`; so do data sets, which are made or decoded again where they are
missing.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path

from pytest_claims.store.errors import DamagedRunError, as_store_error
from pytest_claims.store.partial import abandoned, delete, partial, remove_abandoned
from pytest_claims.store.run_lock import LockHeldError
from pytest_claims.store.run_store import FAILED, RUNS, SET_ASIDE, Store
from pytest_claims.store.stored_run import read_run

CHECKPOINTS = "checkpoints"
"""A training in progress, `<key>.checkpoint` in the store."""


@dataclass(frozen=True)
class Garbage:
    """Something that can go.

    Attributes:
        kind: Why it can go, for people.
        path: The file or folder.
        bytes: What its files hold.
        remove: Removes it, unless that must not be now; says why it was kept, or nothing.
    """

    kind: str
    path: Path
    bytes: int
    remove: Callable[[], str]


def leftovers(store: Store) -> Iterator[Garbage]:
    """Temporary folders and files of processes that have ended, and runs that were set aside."""
    for folder in (RUNS, FAILED, CHECKPOINTS):
        for path in abandoned(store.root / folder):
            yield Garbage("left behind", path, size(path), bind(_remove_abandoned, path))
    for path in _entries(store.root / SET_ASIDE):
        yield Garbage("set aside", path, size(path), bind(_remove, path))


def stale_checkpoints(store: Store) -> Iterator[Garbage]:
    """Checkpoints of runs that are finished and whole."""
    for key, path in _checkpoints(store):
        try:
            read_run(store.folder(key), key)
        except (FileNotFoundError, DamagedRunError):
            continue  # whoever makes it goes on from here
        yield Garbage("checkpoint", path, size(path), bind(_remove_unless_held, store, key, path))


def tombstones(store: Store) -> Iterator[Garbage]:
    """All tombstones, whatever their age."""
    for key in store.failed_keys():
        path = store.root / FAILED / f"{key}.json"
        yield Garbage("failed", path, size(path), bind(_remove, path))


def unreachable(store: Store, reachable: Collection[str]) -> Iterator[Garbage]:
    """Runs, and checkpoints of unfinished ones, whose key is not among the reachable ones."""
    keys = store.run_keys()
    for key in keys:
        if key not in reachable:
            path = store.folder(key)
            yield Garbage("unreachable", path, size(path), bind(_remove_run, store, key))
    for key, path in _checkpoints(store):
        if key not in reachable and key not in keys:
            yield Garbage("unreachable", path, size(path), bind(_remove_unless_held, store, key, path))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count for themselves."""
    paths = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(_file_size(each) for each in paths)


def _file_size(path: Path) -> int:
    try:
        return 0 if path.is_dir() and not path.is_symlink() else path.lstat().st_size
    except FileNotFoundError:
        return 0


def _checkpoints(store: Store) -> Iterator[tuple[str, Path]]:
    """The key and the file of each; of what a killed process left of one, too, a hidden file of the same name."""
    for path in _entries(store.root / CHECKPOINTS):
        key = path.name.removeprefix(".").partition(".")[0]
        if re.fullmatch("[0-9a-f]{64}", key):
            yield key, path


def _entries(folder: Path) -> list[Path]:
    if not os.path.lexists(folder):
        return []
    with as_store_error(f"{folder}: cannot be read"):
        return sorted(folder.iterdir())


def _remove(path: Path) -> str:
    with as_store_error(f"{path}: cannot be removed"):
        delete(path)
    return ""


def _remove_abandoned(path: Path) -> str:
    with as_store_error(f"{path}: cannot be removed"):
        remove_abandoned(path)
    return ""


def _remove_unless_held(store: Store, key: str, path: Path) -> str:
    try:
        with store.lock(key).acquire(blocking=False):
            return _remove(path)
    except LockHeldError as error:
        return str(error)


def _remove_run(store: Store, key: str) -> str:
    """Takes a run out of its place in one step, so that a process killed meanwhile leaves no half of it there."""
    try:
        with (
            store.lock(key).acquire(blocking=False),
            as_store_error(f"{store.folder(key)}: cannot be removed"),
            partial(store.root / RUNS) as path,
            suppress(FileNotFoundError),  # another process may have been first
        ):
            store.folder(key).rename(path)
    except LockHeldError as error:
        return str(error)
    return ""
