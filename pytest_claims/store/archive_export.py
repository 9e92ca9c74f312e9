"""Runs written into an archive; see `pytest_claims.store.archive`."""

import gzip
import io
import os
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from pytest_claims.store.archive import COMPRESSED, FORMAT, INDEX, MEMBERS, PLAIN, member_name
from pytest_claims.store.errors import StoreError, as_store_error
from pytest_claims.store.partial import partial
from pytest_claims.store.run_store import Store
from pytest_claims.store.stored_run import RunSummary, StoredRun, to_json

_COMPRESSION = 1
"""Weights hardly get smaller, whatever the effort."""


class ExportError(ValueError):
    """What is asked for cannot be; the message says which word is wrong."""


def select(runs: Sequence[RunSummary], words: Collection[str], profiles: Collection[str]) -> list[RunSummary]:
    """Chooses runs.

    Args:
        runs: Of which to choose.
        words: Names, or beginnings of keys; none for all runs.
        profiles: Names of profiles; none for all.

    Raises:
        ExportError: A word or a profile fits no run.
    """
    for profile in profiles:
        if not any(run.provenance.get("profile") == profile for run in runs):
            raise ExportError(f"{profile}: no finished run is of this profile")
    of_profiles = [run for run in runs if not profiles or run.provenance.get("profile") in profiles]
    for word in words:
        if not any(_fits(run, word) for run in of_profiles):
            raise ExportError(f"{word}: no finished run has this name, or a key that begins so")
    return [run for run in of_profiles if not words or any(_fits(run, word) for word in words)]


def _fits(run: RunSummary, word: str) -> bool:
    return run.provenance.get("name") == word or run.key.startswith(word)


def with_parents(chosen: Sequence[RunSummary], runs: Sequence[RunSummary]) -> tuple[set[str], set[str]]:
    """The keys of some runs and of all that they are made from, and those of the latter that are not among `runs`."""
    known = {run.key: run for run in runs}
    waiting = [run.key for run in chosen]
    keys: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key in keys:
            continue
        keys.add(key)
        parents = known[key].provenance.get("parents", {}) if key in known else {}
        if isinstance(parents, Mapping):
            waiting += map(str, parents.values())
    return keys & known.keys(), keys - known.keys()


def export_runs(store: Store, keys: Collection[str], archive: Path) -> None:
    """Writes whole, verified runs into an archive, which appears complete or not at all.

    Args:
        store: Has the runs.
        keys: Which of them.
        archive: Ends in `.tar`, or in `.tar.gz` or `.tgz` for a compressed one; one that is there is replaced.

    Raises:
        ExportError: The archive has another ending.
        StoreError: A run is damaged or missing, or the archive cannot be written.
    """
    if not archive.name.endswith((*COMPRESSED, *PLAIN)):
        raise ExportError(f"{archive}: must end in {', '.join((*PLAIN, *COMPRESSED))}")
    with as_store_error(f"archive {archive}: cannot be written"), partial(archive.parent) as path:
        with path.open("xb") as file:
            with _compressor(file, archive) as stream:
                _write(store, sorted(keys), stream)
            file.flush()
            os.fsync(file.fileno())
        path.replace(archive)


@contextmanager
def _compressor(file: BinaryIO, archive: Path) -> Iterator[BinaryIO]:
    if archive.name.endswith(PLAIN):
        yield file
        return
    # Neither name nor time, which would differ between archives of the same runs.
    with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as stream:
        yield cast(BinaryIO, stream)


def _write(store: Store, keys: Sequence[str], stream: BinaryIO) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        index = to_json({"format": FORMAT, "runs": list(keys)}).encode()
        tar.addfile(_header(INDEX, len(index)), io.BytesIO(index))
        for key in keys:
            folder = _whole(store, key).folder
            for name in MEMBERS:
                with (folder / name).open("rb") as file:
                    tar.addfile(_header(member_name(key, name), os.fstat(file.fileno()).st_size), file)


def _whole(store: Store, key: str) -> StoredRun:
    if (run := store.load(key)) is None:
        raise StoreError(
            f"run store {store.root}: run {key[:12]} is damaged or has left the store; nothing was exported"
        )
    return run


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    return header
