"""Plots that need not be drawn again: what they show, what draws them and their files are as a record beside them says.

Drawing takes seconds, mostly to import matplotlib and to place labels, and most sessions find what the last one found.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from pytest_claims.keys.file_hash import file_hash
from pytest_claims.report.accuracies import MeasuredModel
from pytest_claims.report.conditions import Conditions
from pytest_claims.report.files import write_file

RECORD = ".plots.json"


def drawing_inputs(models: Mapping[str, MeasuredModel], conditions: Conditions, modules: Sequence[str]) -> str:
    """A hash of all that decides what is drawn: the numbers and words, the code, and matplotlib's version.

    Args:
        models: What is drawn.
        conditions: What is written beside it.
        modules: That draw. All of their packages counts, and of a module in none all beside it: to find out what each
            imports would take longer.
    """
    tops = {module.partition(".")[0] for module in modules}
    paths = sorted({path for top in tops for path in _sources(top)})
    outline = replace(conditions.outline, plots=())
    words = (conditions.title, outline, [(str(path), file_hash(path)) for path in paths], version("matplotlib"))
    parts = repr((list(models.items()), words))
    return hashlib.sha256(parts.encode()).hexdigest()


def _sources(top: str) -> Iterator[Path]:
    """The files of a package, or those that lie beside a module."""
    spec = find_spec(top)
    if spec and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            yield from Path(folder).rglob("*.py")
    elif spec and spec.origin:
        yield from Path(spec.origin).parent.glob("*.py")


def is_drawn(folder: Path, names: Sequence[str], inputs: str) -> bool:
    """Whether the files of these names were drawn from the same and are as they were then, missing ones included."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return bool(record == _record(folder, names, inputs))
    except (OSError, ValueError, RecursionError):
        return False


def record_drawn(folder: Path, names: Sequence[str], inputs: str) -> None:
    """Writes what `is_drawn` asks for.

    Raises:
        ResultsError: The folder cannot be written to.
    """
    write_file(folder / RECORD, (json.dumps(_record(folder, names, inputs), indent=1) + "\n").encode())


def _record(folder: Path, names: Sequence[str], inputs: str) -> dict[str, object]:
    hashes: dict[str, str | None] = dict.fromkeys(names)
    for name in names:
        with suppress(FileNotFoundError):
            hashes[name] = file_hash(folder / name)
    return {"drawn from": inputs, "files": hashes}
