"""The findings as one HTML file that needs nothing else: no script, no network, no other file."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_claims.claims.claim import Claim
from pytest_claims.report import text
from pytest_claims.report.conditions import Conditions, Outline
from pytest_claims.report.files import write_file
from pytest_claims.report.measured_models import SHORT_KEY, measure_names, seed
from pytest_claims.report.plots import all_plots
from pytest_claims.store import StoredRun
from pytest_claims.suite.judging import Finding
from pytest_claims.verdicts.verdict import Verdict

PAGE = "report.html"

_VERDICTS = [*(verdict.value for verdict in Verdict), text.NOT_JUDGED]


@dataclass(frozen=True)
class RunRow:
    """A run as a row: its measurements in the order of the card's measures, empty where it lacks one."""

    model: str
    seed: int
    measurements: Sequence[str]
    key: str
    folder: str


@dataclass(frozen=True)
class Card:
    """A claim as it is shown."""

    claim: Claim
    verdict: str
    measured: str
    expected: str
    conclusion: str
    recorded: str
    parts: Sequence[tuple[str, str]]
    measures: Sequence[str]
    runs: Sequence[RunRow]


@dataclass(frozen=True)
class Picture:
    """A plot as an image inside the page."""

    name: str
    caption: str
    source: str


@dataclass(frozen=True)
class Section:
    """A section: its claims, its plots, and how many claims have each of the page's verdicts."""

    anchor: str
    title: str
    cards: Sequence[Card]
    pictures: Sequence[Picture]
    counts: Sequence[int]


def write_page(findings: Mapping[str, Finding], conditions: Conditions, plots: Sequence[Path], folder: Path) -> Path:
    """Writes `report.html`.

    Args:
        findings: The claims.
        conditions: What they were judged under.
        plots: Files that `write_plots` has written; the SVG files among them go into the page.
        folder: Where the page goes.

    Raises:
        ResultsError: The folder cannot be written to.
    """
    return write_file(folder / PAGE, render_page(findings, conditions, plots).encode())


def render_page(findings: Mapping[str, Finding], conditions: Conditions, plots: Sequence[Path]) -> str:
    """The page's HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("pytest_claims.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        conditions=conditions,
        summary=text.summary(findings, conditions.profile),
        other_numerics=text.other_numerics(findings, conditions),
        verdicts=_VERDICTS,
        about_intervals=text.ABOUT_INTERVALS,
        sections=_sections(findings, conditions, plots),
        pictures=_pictures(plots, conditions.outline, None),
    )


def _sections(findings: Mapping[str, Finding], conditions: Conditions, plots: Sequence[Path]) -> list[Section]:
    sections, outline = [], conditions.outline
    for number, name in enumerate(outline.in_order(finding.claim.section for finding in findings.values()), 1):
        cards = [_card(found, conditions.profile) for found in findings.values() if found.claim.section == name]
        counted = Counter(card.verdict for card in cards)
        counts = [counted[verdict] for verdict in _VERDICTS]
        pictures = _pictures(plots, outline, name)
        sections.append(Section(f"section-{number}", outline.section_title(name), cards, pictures, counts))
    return sections


def _card(finding: Finding, profile: str) -> Card:
    measures = measure_names([run for runs in finding.runs.values() for run in runs])
    return Card(
        claim=finding.claim,
        verdict=text.verdict_text(finding),
        measured=text.measured(finding),
        expected=text.expected(finding),
        conclusion=text.conclusion(finding),
        recorded=text.recorded_text(finding, profile),
        parts=_parts(finding),
        measures=measures,
        runs=[_run_row(model, run, measures) for model, runs in finding.runs.items() for run in runs],
    )


def _parts(finding: Finding) -> list[tuple[str, str]]:
    """Each part's name and estimate, where there are several."""
    if finding.judgement is None or len(finding.judgement.estimates) == 1:
        return []
    texts = [text.estimate_text(finding, part) for part in finding.judgement.estimates]
    return list(zip(finding.claim.part_names(), texts, strict=True))


def _run_row(model: str, run: StoredRun, measures: Sequence[str]) -> RunRow:
    values = [_measurement(run.measurements[name]) if name in run.measurements else "" for name in measures]
    return RunRow(model, seed(run), values, run.key[:SHORT_KEY], str(run.folder))


def _measurement(value: float) -> str:
    """Counts whole, all else to three decimals."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1000 else f"{value:,.3f}"


def _pictures(plots: Sequence[Path], outline: Outline, section: str | None) -> list[Picture]:
    files = {path.stem: path for path in plots if path.suffix == ".svg"}
    return [
        Picture(plot.name, plot.caption, _data_url(files[plot.name]))
        for plot in all_plots(outline)
        if plot.section == section and plot.name in files
    ]


def _data_url(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
