"""Findings as tables: the claims, and the measurements that they rest on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_claims.claims.decisive import decisive_part
from pytest_claims.report import text
from pytest_claims.report.conditions import Conditions
from pytest_claims.report.files import write_file
from pytest_claims.report.measured_models import SHORT_KEY, measure_names, runs_by_model, seed
from pytest_claims.suite.judging import Finding

if TYPE_CHECKING:
    import pandas as pd

READABLE = ["claim", "statement", "measured", "expected", "verdict", "recorded", "source"]
"""The columns that are made for people."""


def claims_table(findings: Mapping[str, Finding], profile: str) -> pd.DataFrame:
    """One row a claim.

    Returns:
        The columns of `READABLE` with `section`; `mean`, `lower`, `upper`, `confidence` and `n` of the decisive part,
        in the claim's unit, with `p_refuted` and `seeds_needed`; `runs`, the short keys of all runs behind it; and
        `reason`, why it was not judged. What is not known is missing.
    """
    import pandas as pd

    table = pd.DataFrame([_claim_row(finding, profile) for finding in findings.values()], columns=_CLAIM_COLUMNS)
    whole = dict.fromkeys(("n", "seeds_needed"), "Int64")
    real = dict.fromkeys(("mean", "lower", "upper", "confidence", "p_refuted"), "float64")
    return table.astype({**whole, **real})


_NUMBERS = ["mean", "lower", "upper", "confidence", "n", "p_refuted", "seeds_needed"]
_CLAIM_COLUMNS = ["claim", "section", *READABLE[1:], *_NUMBERS, "runs", "reason"]


def _claim_row(finding: Finding, profile: str) -> dict[str, object]:
    keys = dict.fromkeys(run.key[:SHORT_KEY] for runs in finding.runs.values() for run in runs)
    return {
        "claim": finding.claim.id,
        "section": finding.claim.section,
        "statement": finding.claim.statement,
        "measured": text.measured(finding),
        "expected": text.expected(finding),
        "verdict": text.verdict_text(finding),
        "recorded": text.recorded_text(finding, profile),
        "source": finding.claim.source,
        **_numbers(finding),
        "runs": " ".join(keys),
        "reason": finding.reason,
    }


def _numbers(finding: Finding) -> dict[str, object]:
    judgement = finding.judgement
    if judgement is None:
        return {}
    part = judgement.estimates[decisive_part(judgement, finding.claim)]
    lower, upper = (end if math.isfinite(end) else None for end in (part.lower, part.upper))
    return {
        "mean": part.mean,
        "lower": lower,
        "upper": upper,
        "confidence": part.confidence,
        "n": part.n,
        "p_refuted": judgement.p_refuted,
        "seeds_needed": judgement.seeds_needed,
    }


def measurements_table(findings: Mapping[str, Finding]) -> pd.DataFrame:
    """One row for each model and seed: all that was measured, and the run's key and folder.

    A measure that a model does not have is missing in its rows.
    """
    import pandas as pd

    models = runs_by_model(findings)
    rows = [
        {"model": model, "seed": seed(run), **run.measurements, "key": run.key, "folder": str(run.folder)}
        for model, runs in models.items()
        for run in runs
    ]
    measures = measure_names([run for runs in models.values() for run in runs])
    table = pd.DataFrame(rows, columns=["model", "seed", *measures, "key", "folder"])
    counts = [name for name in ("parameters", "macs", "bytes") if name in measures]
    return table.astype(dict.fromkeys(counts, "Int64"))


def write_tables(findings: Mapping[str, Finding], conditions: Conditions, folder: Path) -> list[Path]:
    """Writes `claims.csv`, `claims.md` (the readable columns) and `measurements.csv`.

    Raises:
        ResultsError: The folder cannot be written to.
    """
    claims = claims_table(findings, conditions.profile)
    contents = {
        "claims.csv": claims.to_csv(index=False),
        "claims.md": _markdown(claims, conditions, text.summary(findings, conditions.profile)),
        "measurements.csv": measurements_table(findings).to_csv(index=False),
    }
    return [write_file(folder / name, content.encode()) for name, content in contents.items()]


def _markdown(claims: pd.DataFrame, conditions: Conditions, counts: str) -> str:
    table = _markdown_table(claims[READABLE].map(_markdown_cell))
    return f"# Claims\n\n{conditions.title} ({conditions.numerics}): {counts}. {text.ABOUT_INTERVALS}.\n\n{table}\n"


def _markdown_table(cells: pd.DataFrame) -> str:
    """The columns stand below each other in the source, too."""
    widths = [max(map(len, [name, *column])) for name, column in cells.items()]
    rows = [cells.columns, ["-" * width for width in widths], *cells.to_numpy()]
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def _markdown_cell(value: str) -> str:
    """Text that means itself in a cell: no cell or line ends in it, and no HTML tag begins."""
    line = " ".join(value.split()).replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", r"\\<", line)
