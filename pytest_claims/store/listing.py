"""What a store has, as told by its small files: nothing is changed, and no weights are read."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_claims.store.errors import DamagedRunError
from pytest_claims.store.run_store import Failure, Store
from pytest_claims.store.stored_run import RunSummary, read_summary

_ORDER = ("profile", "name", "seed", "finished")


@dataclass(frozen=True)
class Listing:
    """The finished runs, the tombstones and the damaged runs of a store.

    Attributes:
        runs: By profile, name, seed and the time they were finished.
        failures: By key.
        damaged: What is wrong with each run of which that shows without reading its weights, by key.
    """

    runs: tuple[RunSummary, ...]
    failures: Mapping[str, Failure]
    damaged: Mapping[str, str]


def list_store(store: Store) -> Listing:
    """Lists a store.

    Raises:
        StoreError: It cannot be read.
    """
    runs: list[RunSummary] = []
    damaged: dict[str, str] = {}
    for key in store.run_keys():
        try:
            runs.append(read_summary(store.folder(key), key))
        except FileNotFoundError:
            continue  # removed meanwhile
        except DamagedRunError as error:
            damaged[key] = str(error)
    failures = {key: failure for key in store.failed_keys() if (failure := store.failure(key))}
    return Listing(tuple(sorted(runs, key=_order)), failures, damaged)


def _order(run: RunSummary) -> tuple[str, ...]:
    profile, name, seed, finished = (str(run.provenance.get(field, "")) for field in _ORDER)
    return profile, name, seed.zfill(20), finished, run.key  # as many digits, so that 10 comes after 9
