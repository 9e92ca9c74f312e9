"""Files that are whole or not there, whatever happens while they are written."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replaces a file in one step, on leaving the block without an error; a reader sees the old one or the new one.

    Args:
        path: The file to replace or create.

    Yields:
        An empty file in the same folder (a rename is atomic only within one file system), to be written by the caller.

    Raises:
        OSError: The folder cannot be written; the file is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
