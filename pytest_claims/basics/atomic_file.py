"""Files that are whole or not there, whatever happens while they are written."""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_PREFIX = 200
"""Bytes of a file's name in that of its temporary file; with what is added, it stays below the usual 255."""

DECIDES_BYTES = False
"""No run's bytes depend on this module; see `pytest_claims.keys.code_fingerprint`."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replaces a file in one step, on leaving the block without an error; a reader sees the old one or the new one.

    The new file has the old one's permissions. Where the path is a link, what it leads to is replaced.

    Args:
        path: The file to replace or create.

    Yields:
        An empty file in the same folder (a rename is atomic only within one file system), to be written by the caller.

    Raises:
        OSError: The folder cannot be written, or the path is no regular file; the file is then as it was. The error
            names the path, also where it is the temporary file's.
    """
    mode = _mode(path)
    target = Path(os.path.realpath(path))
    prefix = os.fsdecode(os.fsencode(target.name)[:_LONGEST_PREFIX])
    temporary = target.with_name(f".{prefix}.{uuid.uuid4().hex[:12]}.tmp")
    with _errors_name(path, temporary):
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _mode(path: Path) -> int | None:
    """Permissions of the file to replace; None if there is none yet."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "No regular file, and not replaced", os.fspath(path))
    return stat.S_IMODE(mode)


@contextmanager
def _errors_name(path: Path, temporary: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename != os.fspath(temporary):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
