"""Archives of small runs, taken apart and put together again by Python's own tarfile."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from small_runs import key_of, save_small

from pytest_claims.store import Store
from pytest_claims.store.archive_export import export_runs

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
    header = tarfile.TarInfo(name)
    header.size, header.type, header.linkname = len(content), kind, link
    return header, content


def archive_of(folder: Path, numbers: Iterable[int], name: str = "runs.tar") -> Path:
    """An archive of runs that are made for it."""
    store = Store(folder / "source")
    for number in numbers:
        save_small(store, number)
    export_runs(store, [key_of(number) for number in numbers], folder / name)
    return folder / name


def members(archive: Path) -> list[Member]:
    with tarfile.open(archive) as tar:
        return [(header, tar.extractfile(header).read()) for header in tar.getmembers()]


def write_archive(path: Path, contents: Iterable[Member], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for header, content in contents:
            tar.addfile(header, io.BytesIO(content))
    return path
