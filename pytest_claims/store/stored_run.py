"""The folder of a finished run: how it is written, and verified when it is read.

It holds exactly four plain files. The manifest has a hash of each of the others, and of itself. That proves a run
whole and unchanged; it does not prove who made it.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_claims.keys.file_hash import file_hash
from pytest_claims.store.errors import DamagedRunError, StoreError

WEIGHTS = "weights.safetensors"
MEASUREMENTS = "measurements.json"
HISTORY = "history.csv"
MANIFEST = "manifest.json"

_FORMAT = 1
_FILES = {WEIGHTS, MEASUREMENTS, HISTORY}
_OTHER_FILES = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_OTHER_CONTENT = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class RunSummary:
    """What a finished run's small files tell.

    Attributes:
        key: The hash of all that decides its bytes.
        folder: Where its files are.
        measurements: Its numbers by name.
        provenance: Recipe, seed, parents, data, environment and duration, as written when it was made.
    """

    key: str
    folder: Path
    measurements: Mapping[str, float]
    provenance: Mapping[str, object]


class StoredRun(RunSummary):
    """A finished run, of which every byte was verified when it was read."""

    @property
    def weights(self) -> Path:
        """The safetensors file of the model's state."""
        return self.folder / WEIGHTS


def write_run(
    folder: Path,
    key: str,
    write_weights: Callable[[Path], object],
    measurements: Mapping[str, float],
    history: str,
    provenance: Mapping[str, object],
) -> None:
    """Writes a run's files into an empty folder, the manifest last; see `Store.save`.

    Raises:
        OSError: A file cannot be written.
        StoreError: A measurement is not finite.
    """
    bad = [name for name, value in measurements.items() if not math.isfinite(value)]
    if bad:
        raise StoreError(f"run {key[:12]}: measurement {bad[0]} is {measurements[bad[0]]}, must be finite")
    write_weights(folder / WEIGHTS)
    measured = {**measurements, "bytes": (folder / WEIGHTS).stat().st_size}
    (folder / MEASUREMENTS).write_text(to_json(measured), encoding="utf-8")
    (folder / HISTORY).write_text(history, encoding="utf-8")
    files = {name: file_hash(folder / name) for name in sorted(_FILES)}
    manifest = {"format": _FORMAT, "key": key, "files": files, "provenance": dict(provenance)}
    (folder / MANIFEST).write_text(to_json({**manifest, "hash": _hash(manifest)}), encoding="utf-8")


def read_run(folder: Path, key: str) -> StoredRun:
    """Reads a run's folder and verifies it.

    Raises:
        FileNotFoundError: There is no such folder.
        DamagedRunError: It is not whole, or not what its manifest says.
        StoreError: The system does not let it be read, so that nobody can tell.
    """
    return StoredRun(key, folder, *_read(folder, key, _FILES))


def read_summary(folder: Path, key: str) -> RunSummary:
    """Reads what a run's small files tell, without the time that it takes to verify its weights.

    Raises:
        FileNotFoundError: There is no such folder.
        DamagedRunError: Files are missing, or the small ones are not what the manifest says.
        StoreError: The system does not let them be read.
    """
    return RunSummary(key, folder, *_read(folder, key, {MEASUREMENTS}))


def to_json(value: object) -> str:
    """JSON as it is kept in the store: the same value, the same text."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _read(folder: Path, key: str, hashed: Collection[str]) -> tuple[dict[str, float], dict[str, object]]:
    """Measurements and provenance, the hashes of some files verified."""
    if not os.path.lexists(folder):
        raise FileNotFoundError(folder)
    try:
        _check_entries(folder)
        files, provenance = _read_manifest(folder / MANIFEST, key)
        for name in sorted(hashed):
            if file_hash(folder / name) != files[name]:
                raise DamagedRunError(f"{folder / name}: its hash is not the one in {MANIFEST}")
        return _read_measurements(folder / MEASUREMENTS), provenance
    except DamagedRunError:
        raise
    except (*_OTHER_FILES, *_OTHER_CONTENT) as error:
        raise DamagedRunError(f"{folder}: is not a whole run ({type(error).__name__}: {error})") from error
    except OSError as error:  # once it is allowed, or the disk answers, the run may be found whole
        raise StoreError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _check_entries(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        raise DamagedRunError(f"{folder}: is not a folder")
    # Told without opening them: to read a pipe would never end, and a link's target may change unseen.
    plain = {path.name: path.is_file() and not path.is_symlink() for path in folder.iterdir()}
    wanted = {*_FILES, MANIFEST}
    for name in sorted(plain.keys() | wanted):
        if name not in plain:
            raise DamagedRunError(f"{folder / name}: is missing")
        if name not in wanted:
            raise DamagedRunError(f"{folder / name}: does not belong to a run")
        if not plain[name]:
            raise DamagedRunError(f"{folder / name}: is not a plain file")


def _read_manifest(path: Path, key: str) -> tuple[dict[str, str], dict[str, object]]:
    """The hash of each file, and the provenance."""
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["format"] != _FORMAT or manifest["key"] != key or set(manifest["files"]) != _FILES:
        raise DamagedRunError(f"{path}: is not a format {_FORMAT} manifest of run {key[:12]}")
    if manifest.pop("hash") != _hash(manifest):
        raise DamagedRunError(f"{path}: its hash is not the one in itself")
    return dict(manifest["files"]), dict(manifest["provenance"])


def _read_measurements(path: Path) -> dict[str, float]:
    measurements = json.loads(path.read_text(encoding="utf-8"))
    for name, value in measurements.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DamagedRunError(f"{path}: {name} is {value!r}, must be a finite number")
    return dict(measurements)


def _hash(manifest: Mapping[str, object]) -> str:
    return hashlib.sha256(to_json(manifest).encode()).hexdigest()


def run_files(run: StoredRun) -> dict[str, bytes]:
    """The content of a run's files by name, for `Store.add` elsewhere."""
    return {name: (run.folder / name).read_bytes() for name in (*sorted(_FILES), MANIFEST)}


def check_names(files: Collection[str], key: str) -> None:
    """Raises DamagedRunError unless there is exactly what a run's folder holds."""
    if set(files) != (expected := {*_FILES, MANIFEST}):
        raise DamagedRunError(f"run {key[:12]}: has files {sorted(files)}, expected {sorted(expected)}")
