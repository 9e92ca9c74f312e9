"""Every file of a store hashed anew."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_claims.store.partial import abandoned
from pytest_claims.store.run_store import FAILED, RUNS, SET_ASIDE, Store

Progress = Callable[[int, int], None]
"""Told how many runs are done, of how many."""


@dataclass(frozen=True)
class Verification:
    """What was found in a store.

    Attributes:
        whole: How many runs are what their manifests say.
        problems: What is wrong with each of the others, and with tombstones; each was moved or taken away.
        set_aside: Damaged runs of earlier times, and of this one.
        left_behind: What killed processes have left.
    """

    whole: int
    problems: tuple[str, ...]
    set_aside: tuple[Path, ...]
    left_behind: tuple[Path, ...]


def verify_store(root: Path, progress: Progress) -> Verification:
    """Verifies all runs of a store; damaged ones are set aside, as they are when they are loaded.

    Raises:
        StoreError: It cannot be read.
    """
    problems: list[str] = []
    store = Store(root, on_damage=problems.append)
    keys = store.run_keys()
    whole = 0
    for done, key in enumerate(keys):
        progress(done, len(keys))
        whole += store.load(key) is not None
    progress(len(keys), len(keys))
    unreadable = [key for key in store.failed_keys() if store.failure(key) is None]
    problems += [f"{root / FAILED / key}.json: is no tombstone; counts as none" for key in unreadable]
    set_aside = tuple(sorted((root / SET_ASIDE).glob("*")))
    left_behind = tuple(path for folder in (RUNS, FAILED) for path in abandoned(root / folder))
    return Verification(whole, tuple(problems), set_aside, left_behind)
