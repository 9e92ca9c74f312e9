"""The run store: one folder a finished run, whole or not there at all.

    runs/<key>/weights.safetensors  measurements.json  history.csv  manifest.json
    failed/<key>.json               why a run could not be made
    locks/<key>.lock                held while a run is made
    checkpoints/<key>.checkpoint    how far an interrupted training came
    set-aside/                      what did not match its manifest

A run is written to a temporary folder beside its place, each file flushed to the disk, the manifest last, and then
renamed. The manifest holds a hash of every file, and of itself. Measurements are stored; verdicts never are.
"""

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from experiments.file_hash import file_hash

WEIGHTS = "weights.safetensors"
MEASUREMENTS = "measurements.json"
HISTORY = "history.csv"
MANIFEST = "manifest.json"

_FORMAT = 1
_FILES = {WEIGHTS, MEASUREMENTS, HISTORY}


class StoreError(RuntimeError):
    """The store cannot be used; the message names the path."""


class DamagedRunError(StoreError):
    """A run's folder is not what its manifest says."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run, as verified when it was read.

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

    @property
    def weights(self) -> Path:
        """The safetensors file of the model's state."""
        return self.folder / WEIGHTS


@dataclass(frozen=True)
class Failure:
    """Why a run could not be made."""

    name: str
    message: str
    traceback: str


class Store:
    """A folder of runs that any number of processes may use at once."""

    def __init__(self, root: Path, on_damage: Callable[[str], None] = lambda message: None) -> None:
        self.root = root
        self._on_damage = on_damage
        try:
            for name in ("runs", "failed", "locks"):
                (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"run store {root}: cannot be created ({error.strerror})") from error

    def lock(self, key: str) -> FileLock:
        """The lock to hold while making a run; the system frees it when its process ends."""
        return FileLock(self.root / "locks" / f"{key}.lock")

    def checkpoint(self, key: str) -> Path:
        """Where whoever makes a run keeps what it needs to go on after an interruption."""
        return self.root / "checkpoints" / f"{key}.checkpoint"

    def holds(self, key: str) -> bool:
        """Whether a run is there, verified or not: cheap."""
        return (self._folder(key) / MANIFEST).exists()

    def load(self, key: str) -> StoredRun | None:
        """Reads a run and verifies every file's hash; None if it is not there.

        A damaged run is moved to `set-aside/` and reported, and counts as not there.
        """
        folder = self._folder(key)
        try:
            return read_run(folder, key)
        except FileNotFoundError:
            return None
        except DamagedRunError as error:
            self._set_aside(folder)
            self._on_damage(f"{error}; set aside, will be made again")
            return None

    def save(
        self,
        key: str,
        write_weights: Callable[[Path], object],
        measurements: Mapping[str, float],
        history: str,
        provenance: Mapping[str, object],
    ) -> StoredRun:
        """Stores a finished run.

        Args:
            key: Its key.
            write_weights: Writes the safetensors file to the path that it is given.
            measurements: Finite numbers by name; `bytes`, the size of the weights file, is added.
            history: The epochs as CSV.
            provenance: JSON values that tell how the run was made.
        """
        bad = [name for name, value in measurements.items() if not math.isfinite(value)]
        if bad:
            raise StoreError(f"run {key[:12]}: measurement {bad[0]} is {measurements[bad[0]]}, must be finite")
        with self._publishing(key) as partial:
            write_weights(partial / WEIGHTS)
            measured = {**measurements, "bytes": (partial / WEIGHTS).stat().st_size}
            (partial / MEASUREMENTS).write_text(_json(measured), encoding="utf-8")
            (partial / HISTORY).write_text(history, encoding="utf-8")
            files = {name: file_hash(partial / name) for name in sorted(_FILES)}
            manifest = {"format": _FORMAT, "key": key, "files": files, "provenance": dict(provenance)}
            (partial / MANIFEST).write_text(_json({**manifest, "hash": _hash(manifest)}), encoding="utf-8")
        return read_run(self._folder(key), key)

    def add(self, key: str, files: Mapping[str, bytes]) -> StoredRun:
        """Stores a run that another store holds, unless it is there.

        Args:
            key: Its key.
            files: What `run_files` gave there.

        Raises:
            DamagedRunError: They are not a whole run of this key.
        """
        if files.keys() != {*_FILES, MANIFEST}:
            raise DamagedRunError(f"run {key[:12]}: has files {sorted(files)}, expected {sorted({*_FILES, MANIFEST})}")
        if (stored := self.load(key)) is not None:
            return stored
        with self._publishing(key) as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
            read_run(partial, key)
        return read_run(self._folder(key), key)

    @contextmanager
    def _publishing(self, key: str) -> Iterator[Path]:
        """A temporary folder to write a whole run to; it is put in its place on leaving the block without an error."""
        partial = self.root / "runs" / f".partial-{uuid.uuid4().hex}"
        try:
            partial.mkdir()
            yield partial
            for path in (*partial.iterdir(), partial):
                _flush(path)
            self._publish(partial, key)
        except OSError as error:
            raise StoreError(f"run store {self.root}: cannot write a run ({error.strerror})") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _publish(self, partial: Path, key: str) -> None:
        """Puts a whole run in its place, unless it is there: another process may have made it meanwhile."""
        if self.load(key) is not None:
            return
        try:
            partial.rename(self._folder(key))
        except OSError:
            if self.load(key) is None:
                raise
        _flush(self.root / "runs")

    def failure(self, key: str) -> Failure | None:
        """The tombstone of a run that could not be made."""
        try:
            fields = json.loads(self._tombstone(key).read_text(encoding="utf-8"))
            return Failure(str(fields["name"]), str(fields["message"]), str(fields["traceback"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError, OSError):
            self.forget_failure(key)
            return None

    def record_failure(self, key: str, failure: Failure) -> None:
        """Leaves a tombstone, so that no other worker repeats the failure."""
        partial = self._tombstone(key).with_suffix(f".{uuid.uuid4().hex}.partial")
        partial.write_text(_json(vars(failure)), encoding="utf-8")
        partial.replace(self._tombstone(key))

    def forget_failure(self, key: str) -> None:
        """Removes a tombstone, if there is one."""
        self._tombstone(key).unlink(missing_ok=True)

    def _folder(self, key: str) -> Path:
        return self.root / "runs" / key

    def _tombstone(self, key: str) -> Path:
        return self.root / "failed" / f"{key}.json"

    def _set_aside(self, folder: Path) -> None:
        target = self.root / "set-aside" / f"{folder.name}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process may have been first
            folder.rename(target)


def read_run(folder: Path, key: str) -> StoredRun:
    """Reads a run's folder and verifies it.

    Raises:
        FileNotFoundError: There is no such folder.
        DamagedRunError: It is not whole, or not what its manifest says.
    """
    if not folder.exists():
        raise FileNotFoundError(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT or manifest["key"] != key or set(manifest["files"]) != _FILES:
            raise DamagedRunError(f"{folder / MANIFEST}: is not a format {_FORMAT} manifest of run {key[:12]}")
        if manifest.pop("hash") != _hash(manifest):
            raise DamagedRunError(f"{folder / MANIFEST}: its hash is not the one in itself")
        for name, digest in manifest["files"].items():
            if file_hash(folder / name) != digest:
                raise DamagedRunError(f"{folder / name}: its hash is not the one in {MANIFEST}")
        measurements = json.loads((folder / MEASUREMENTS).read_text(encoding="utf-8"))
        return StoredRun(key, folder, measurements, dict(manifest["provenance"]))
    except DamagedRunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedRunError(f"{folder}: is not a whole run ({type(error).__name__}: {error})") from error


def run_files(run: StoredRun) -> dict[str, bytes]:
    """The content of a run's files by name, for `Store.add` elsewhere."""
    return {name: (run.folder / name).read_bytes() for name in (*sorted(_FILES), MANIFEST)}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _hash(manifest: Mapping[str, object]) -> str:
    return hashlib.sha256(_json(manifest).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Makes the system write a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
