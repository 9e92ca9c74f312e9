"""The store itself: a folder of runs that any number of processes may use at once."""

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_claims.store.errors import DamagedRunError, StoreError, as_store_error
from pytest_claims.store.partial import is_partial, partial
from pytest_claims.store.run_lock import LockHeldError, RunLock
from pytest_claims.store.stored_run import (
    MANIFEST,
    StoredRun,
    check_names,
    read_run,
    to_json,
    write_run,
)

RUNS = "runs"
FAILED = "failed"
LOCKS = "locks"
SET_ASIDE = "set-aside"

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_ATTEMPTS = 10
"""At putting a run in its place, while others put damaged ones there."""


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
            for name in (RUNS, FAILED, LOCKS):
                (root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in _READ_ONLY or not (root / RUNS).is_dir():
                raise StoreError(f"run store {root}: cannot be created ({error.strerror})") from error

    def folder(self, key: str) -> Path:
        """Where a run is, or would be."""
        return self.root / RUNS / key

    def run_keys(self) -> list[str]:
        """The keys under which something is kept as a run, sorted; nothing is verified."""
        return sorted(name for name in self._names(RUNS) if not is_partial(name))

    def failed_keys(self) -> list[str]:
        """The keys that have a tombstone, sorted."""
        names = self._names(FAILED)
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and not is_partial(name))

    def _names(self, folder: str) -> list[str]:
        with as_store_error(f"run store {self.root}: cannot be read"):
            try:
                return [path.name for path in (self.root / folder).iterdir()]
            except FileNotFoundError:
                return []

    def check_writable(self) -> None:
        """Makes sure that runs can be stored, before hours are spent on making them.

        Raises:
            StoreError: They cannot.
        """
        with as_store_error(f"run store {self.root}: cannot be written to"):
            for name in (RUNS, FAILED, LOCKS):
                with partial(self.root / name) as probe:
                    probe.mkdir()

    def lock(self, key: str) -> RunLock:
        """The lock to hold while making a run; the system frees it when its process ends."""
        return RunLock(self.root / LOCKS / f"{key}.lock")

    def checkpoint(self, key: str) -> Path:
        """Where whoever makes a run keeps what it needs to go on after an interruption."""
        return self.root / "checkpoints" / f"{key}.checkpoint"

    def holds(self, key: str) -> bool:
        """Whether a run is there, verified or not: cheap."""
        return (self._folder(key) / MANIFEST).exists()

    def load(self, key: str) -> StoredRun | None:
        """Reads a run and verifies every file's hash; None if it is not there.

        A damaged run is moved to `set-aside/` and reported, and counts as not there.

        Raises:
            StoreError: It is there and cannot be read: it stays as it is, since it may be whole.
        """
        try:
            return read_run(self.folder(key), key)
        except FileNotFoundError:
            return None
        except DamagedRunError as error:
            return self._set_aside(key, error)

    def _set_aside(self, key: str, damage: DamagedRunError) -> StoredRun | None:
        """Moves a damaged run away; returns what another process has put in its place meanwhile, if that is whole."""
        try:
            with self._placing():
                return self._read_or_move(key)
        except FileNotFoundError:
            return None
        except (OSError, StoreError) as error:
            self._on_damage(f"{damage}; cannot be set aside, counts as missing ({error})")
            return None

    def _placing(self) -> ExitStack:
        """Held while a run is moved in or out of its place.

        Of two that found a run damaged, the second might else move away what the first has made anew.
        """
        return self.lock("placing").acquire()

    def _read_or_move(self, key: str) -> StoredRun | None:
        try:
            return read_run(self.folder(key), key)
        except DamagedRunError as error:
            target = self.root / SET_ASIDE / f"{key}-{uuid.uuid4().hex[:8]}"
            target.parent.mkdir(exist_ok=True)
            self.folder(key).rename(target)
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

        Raises:
            StoreError: A measurement is not finite, or the run cannot be written.
        """
        with as_store_error(f"run store {self.root}: cannot write a run"), self.partial_folder() as folder:
            write_run(folder, key, write_weights, measurements, history, provenance)
            return self.publish(folder, key)

    def add(self, key: str, files: Mapping[str, bytes]) -> StoredRun:
        """Stores a run that another store holds, unless it is there.

        Args:
            key: Its key.
            files: What `run_files` gave there.

        Raises:
            DamagedRunError: They are not a whole run of this key.
            StoreError: They cannot be written.
        """
        check_names(files, key)
        if (stored := self.load(key)) is not None:
            return stored
        with as_store_error(f"run store {self.root}: cannot write a run"), self.partial_folder() as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            return self.publish(folder, key)

    @contextmanager
    def partial_folder(self) -> Iterator[Path]:
        """An empty folder on the store's disk for what is to be published, removed in the end.

        Raises:
            OSError: It cannot be made.
        """
        with partial(self.root / RUNS) as folder:
            folder.mkdir()
            yield folder

    def publish(self, folder: Path, key: str) -> StoredRun:
        """Verifies a run's folder and puts it in its place, unless that run is there: another may have made it.

        Raises:
            DamagedRunError: The folder is no whole run of this key.
            OSError: It cannot be put there.
        """
        made = read_run(folder, key)
        for path in (*folder.iterdir(), folder):
            _flush(path)
        for _ in range(_ATTEMPTS):
            if (there := self.load(key)) is not None:
                return there
            try:
                with self._placing():
                    folder.rename(self.folder(key))
            except LockHeldError as error:
                raise StoreError(f"run store {self.root}: cannot write a run ({error})") from error
            except OSError:
                if not os.path.lexists(self.folder(key)):
                    raise
            else:
                _flush(self.root / RUNS)
                return replace(made, folder=self.folder(key))
        raise FileExistsError(errno.EEXIST, f"run {key[:12]} is damaged and cannot be set aside")

    def failure(self, key: str) -> Failure | None:
        """The tombstone of a run that could not be made; one that can't be read counts as none, a damaged one goes."""
        try:
            fields = json.loads(self._tombstone(key).read_text(encoding="utf-8"))
            return Failure(str(fields["name"]), str(fields["message"]), str(fields["traceback"]))
        except OSError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            with suppress(StoreError):  # what cannot be removed counts as none all the same
                self.forget_failure(key)
            return None

    def record_failure(self, key: str, failure: Failure) -> None:
        """Leaves a tombstone, so that no other worker repeats the failure.

        Raises:
            StoreError: It cannot be written.
        """
        with as_store_error(f"{self._tombstone(key)}: cannot be written"), partial(self.root / FAILED) as path:
            path.write_text(to_json(vars(failure)), encoding="utf-8")
            path.replace(self._tombstone(key))

    def forget_failure(self, key: str) -> None:
        """Removes a tombstone, if there is one.

        Raises:
            StoreError: It cannot be removed.
        """
        with as_store_error(f"{self._tombstone(key)}: cannot be removed"):
            self._tombstone(key).unlink(missing_ok=True)

    def _folder(self, key: str) -> Path:
        return self.root / RUNS / key

    def _tombstone(self, key: str) -> Path:
        return self.root / FAILED / f"{key}.json"


def _flush(path: Path) -> None:
    """Makes the system write a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
