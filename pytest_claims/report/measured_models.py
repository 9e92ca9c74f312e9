"""The models that findings rest on, each with its runs."""

from collections.abc import Mapping, Sequence

from pytest_claims.store import StoredRun
from pytest_claims.suite.judging import Finding

SHORT_KEY = 12
"""Characters of a run's key that people are shown: 48 bits, far more than any store's runs need."""


def runs_by_model(findings: Mapping[str, Finding]) -> dict[str, list[StoredRun]]:
    """Each model's runs, in seed order and each once, whichever claims need them."""
    runs: dict[str, dict[str, StoredRun]] = {}
    for finding in findings.values():
        for model, found in finding.runs.items():
            runs.setdefault(model, {}).update((run.key, run) for run in found)
    return {model: sorted(found.values(), key=seed) for model, found in runs.items()}


def seed(run: StoredRun) -> int:
    """The seed that a run was made with; 0 for one that all seeds share."""
    number = run.provenance.get("seed")
    if not isinstance(number, int):
        raise ValueError(f"run {run.key[:SHORT_KEY]}: seed is {number!r} in its provenance, should be an integer")
    return number


def measure_names(runs: Sequence[StoredRun]) -> list[str]:
    """The names of all that was measured on some of the runs: size and accuracy first."""
    first = ("parameters", "macs", "bytes", "accuracy", "best_accuracy")
    names = {name for run in runs for name in run.measurements}
    return [*(name for name in first if name in names), *sorted(names.difference(first))]
