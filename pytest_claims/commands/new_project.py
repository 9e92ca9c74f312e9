"""A project that runs at once, to be changed into one's own."""

import shutil
from pathlib import Path

TEMPLATE = Path(__file__).parent / "template"


class NewProjectError(ValueError):
    """The project cannot be written; the message says why."""


def write_project(folder: Path) -> list[str]:
    """Write a small project into a folder that is new or empty; returns the names of its files.

    Raises:
        NewProjectError: There is something in the folder, or it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NewProjectError(f"{folder}: is there, should be a new or an empty folder")
    sources = sorted(path for path in TEMPLATE.iterdir() if path.is_file())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sources:
            shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise NewProjectError(f"{folder}: cannot be written ({error.strerror})") from error
    return [path.name for path in sources]
