"""Result files: whole or not there, whatever happens while they are written."""

from pathlib import Path

from pytest_claims.basics.atomic_file import replacing


class ResultsError(RuntimeError):
    """The results cannot be written; the message names the folder."""


def write_file(path: Path, content: bytes) -> Path:
    """Writes a file at once: a reader sees the old one or the new one. Its folder is made if needed.

    Returns:
        The path.

    Raises:
        ResultsError: The folder cannot be made or written to; the file is then as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def remove_file(path: Path) -> None:
    """Removes a file of a former session, if there is one.

    Raises:
        ResultsError: It is there and cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ResultsError:
    reason = error.strerror or str(error)
    return ResultsError(
        f"results folder {path.parent}: cannot write {path.name} ({reason}); "
        "give a folder in which files may be made and replaced"
    )
