"""Runs taken out of an archive; see `pytest_claims.store.archive`.

What comes in is as trustworthy as who made the archive: hashes prove that a run is whole and unchanged, not that
training made it.
"""

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pytest_claims.store.archive import (
    FORMAT,
    GZIP_MAGIC,
    INDEX,
    MEMBERS,
    MOST_BYTES,
    ArchiveError,
    is_key,
    member_name,
)
from pytest_claims.store.errors import DamagedRunError, as_store_error
from pytest_claims.store.run_store import Store
from pytest_claims.store.stored_run import MEASUREMENTS, WEIGHTS, read_run

_CHUNK = 2**20


@dataclass(frozen=True)
class Imported:
    """Keys of the runs that came in, and of those that were there before."""

    new: tuple[str, ...]
    there: tuple[str, ...]


def import_runs(store: Store, archive: Path) -> Imported:
    """Takes in the runs of an archive; those that the store has are left as they are.

    The whole archive is read and verified beside the store's runs before the first is put among them, each in one step.

    Raises:
        ArchiveError: Something is wrong with the archive; no run was taken in.
        StoreError: The store cannot be written to.
    """
    with (
        _opened(archive) as stream,
        as_store_error(f"run store {store.root}: cannot write a run"),
        store.partial_folder() as folder,
    ):
        keys = _extract(_Reader(archive, stream), folder)
        there = tuple(key for key in keys if store.load(key) is not None)
        for key in keys:
            store.publish(folder / key, key)
    return Imported(tuple(key for key in keys if key not in there), there)


@contextmanager
def _opened(archive: Path) -> Iterator[BinaryIO]:
    try:
        file = archive.open("rb")
    except OSError as error:
        raise ArchiveError(f"archive {archive}: cannot be read ({error.strerror})") from error
    with file:
        compressed = file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if compressed else file


def _extract(reader: "_Reader", folder: Path) -> list[str]:
    """Writes the runs of an archive into folders named by their keys, verified."""
    keys = _read_index(reader)
    for key in keys:
        (folder / key).mkdir()
        for name in MEMBERS:
            size = reader.next_member(member_name(key, name), MOST_BYTES[name])
            if name == WEIGHTS:
                _check_weights_size(reader, folder / key / MEASUREMENTS, size)
            reader.copy(size, folder / key / name)
        try:
            read_run(folder / key, key)
        except DamagedRunError as error:
            # The message names a temporary folder, of which nothing will be left.
            raise reader.error(str(error).replace(f"{folder}/", "runs/")) from error
    reader.finish()
    return keys


def _read_index(reader: "_Reader") -> list[str]:
    text = reader.read(reader.next_member(INDEX, MOST_BYTES[INDEX]))
    try:
        index = json.loads(text)
        keys = index["runs"]
        sound = index["format"] == FORMAT and all(map(is_key, keys)) and keys == sorted(set(keys))
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise reader.error(f"must be a format {FORMAT} list of keys, each once and sorted")
    return list(keys)


def _check_weights_size(reader: "_Reader", measurements: Path, size: int) -> None:
    """Before the weights are written: their size is known, and so what would fill a disk is not begun."""
    try:
        measured = json.loads(measurements.read_text(encoding="utf-8"))["bytes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        measured = None
    if measured != size:
        raise reader.error(f"has {size} bytes, but {MEASUREMENTS} says {measured}")


class _Reader:
    """Reads a tar file from front to back, member by member, and refuses whatever is not the next one that it must be.

    Python's own reader would interpret links, devices, sparse files and extended headers of any size; here they end it.
    """

    def __init__(self, archive: Path, stream: BinaryIO) -> None:
        self._archive = archive
        self._stream = stream
        self._member = INDEX
        self._padding = 0

    def error(self, what: str) -> ArchiveError:
        """An error in the member that is being read."""
        return ArchiveError(f"archive {self._archive}, member {self._member!r}: {what}; nothing was imported")

    def next_member(self, name: str, most_bytes: int) -> int:
        """Reads the header of the next member, which must be a plain file of this name; returns its bytes."""
        self._skip_padding()
        self._member = name
        try:
            header = tarfile.TarInfo.frombuf(self.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self.error(f"is missing ({error})") from error
        if header.name != name:
            raise self.error(f"is missing, {header.name!r} is in its place")
        if header.type != tarfile.REGTYPE:
            raise self.error(f"must be a plain file, but is of type {header.type!r}")
        if not 0 <= header.size <= most_bytes:
            raise self.error(f"has {header.size} bytes, must have at most {most_bytes}")
        self._padding = -header.size % tarfile.BLOCKSIZE
        return header.size

    def copy(self, size: int, path: Path) -> None:
        """Writes the bytes of the member to a file."""
        with path.open("xb") as file:
            for start in range(0, size, _CHUNK):
                file.write(self.read(min(_CHUNK, size - start)))

    def finish(self) -> None:
        """Makes sure that the archive ends here, and that all of it came."""
        self._skip_padding()
        self._member = "end of the archive"
        # Two blocks of zeros, then more of them until a record is full.
        most = tarfile.RECORDSIZE + tarfile.BLOCKSIZE
        rest = self._read_some(most + 1)
        if any(rest) or not 2 * tarfile.BLOCKSIZE <= len(rest) <= most:
            raise self.error(f"must be from {2 * tarfile.BLOCKSIZE} to {most} zeros")

    def _skip_padding(self) -> None:
        if any(self.read(self._padding)):
            raise self.error("is padded with something else than zeros")

    def read(self, size: int) -> bytes:
        """As many bytes as asked for."""
        data = self._read_some(size)
        if len(data) < size:
            raise self.error("is cut short")
        return data

    def _read_some(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (EOFError, OSError, zlib.error) as error:  # BadGzipFile is an OSError
            raise self.error(f"cannot be read ({error})") from error
