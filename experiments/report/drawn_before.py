"""Plots that need not be drawn again: what they show, what draws them and their files are as a record beside them says.

Drawing takes seconds, mostly to import matplotlib and to place labels, and most sessions find what the last one found.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from experiments.code_fingerprint import ROOT
from experiments.file_hash import file_hash
from experiments.report.accuracies import MeasuredModel
from experiments.report.files import write_file

RECORD = ".plots.json"


def drawing_inputs(models: Mapping[str, MeasuredModel], subtitle: str) -> str:
    """A hash of all that decides what is drawn: the numbers and words, the code, and matplotlib's version."""
    # Of the whole package: to find out which modules draw takes longer than to hash them all.
    code = [(str(path.relative_to(ROOT)), file_hash(path)) for path in sorted((ROOT / "experiments").rglob("*.py"))]
    parts = repr((list(models.items()), subtitle, code, version("matplotlib")))
    return hashlib.sha256(parts.encode()).hexdigest()


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
