"""The claims as a table in the terminal."""

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_claims.report import text
from pytest_claims.report.conditions import Conditions, Outline
from pytest_claims.suite.judging import Finding
from pytest_claims.verdicts.verdict import Verdict

STYLES: Mapping[str, str] = {
    Verdict.REPRODUCED: "green",
    Verdict.REFUTED: "bold red",
    Verdict.EQUAL: "cyan",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_APPLICABLE: "dim",
    Verdict.NOT_JUDGED: "bold magenta",
    "holds": "green",
    "fails": "bold red",
    "not shown": "yellow",
}
"""Colours of the verdicts, which are told in words, too."""

_HEADINGS = ("claim", "measured", "expected", "verdict")
_VERDICT_WIDTH = 17
_GAPS = 9
"""Columns that the table takes between and beside its four."""


def print_claims(findings: Mapping[str, Finding], conditions: Conditions, console: Console) -> None:
    """Prints a table of the claims for each section, why claims were not judged, and the count of each verdict.

    Where the report tells apart who states a claim, a table is grouped by that. It is as wide as the console and,
    where that is no terminal, plain text.
    """
    outline = conditions.outline
    for section in outline.in_order(finding.claim.section for finding in findings.values()):
        shown = [finding for finding in findings.values() if finding.claim.section == section]
        groups = _by_source(shown, outline)
        console.print(_table(outline.section_title(section), groups, conditions.profile, console.width))
    for line in _reasons(findings):
        console.print(line, style="dim", highlight=False, markup=False)
    if numerics := text.other_numerics(findings, conditions):
        console.print(numerics, style="dim", highlight=False, markup=False)
    if fitness := text.fitness(findings, conditions):
        console.print(fitness, style="bold", highlight=False, markup=False)
    console.print(text.summary(findings, conditions.profile), style="bold", highlight=False, markup=False)


def _by_source(findings: Sequence[Finding], outline: Outline) -> Mapping[str, Sequence[Finding]]:
    """Findings by who states them; all under no name where the report does not tell that apart."""
    sources = outline.sources_in_order(finding.claim.source for finding in findings)
    groups = {source: [each for each in findings if each.claim.source == source] for source in sources}
    return groups or {"": findings}


def _table(title: str, groups: Mapping[str, Sequence[Finding]], profile: str, width: int) -> Table:
    table = Table(title=Text(title), title_style="bold", title_justify="left", box=None, padding=(0, 1), expand=False)
    widths = _widths(width)
    for heading, column_width in zip(_HEADINGS, widths, strict=True):
        table.add_column(heading, width=column_width, header_style="underline")
    for source, findings in groups.items():
        if source:
            table.add_row(Text(_wrapped(f"{source}:", widths[0]), style="italic"))
        for finding in findings:
            table.add_row(*_cells(finding, widths), _verdict(finding, profile))
    return table


def _cells(finding: Finding, widths: Sequence[int]) -> list[Text]:
    """All but the verdict."""
    cells = (finding.claim.id, text.measured(finding), text.expected(finding))
    return [Text(_wrapped(cell, width)) for cell, width in zip(cells, widths[:3], strict=True)]


def _widths(width: int) -> tuple[int, int, int, int]:
    """Of the four columns: a claim's id has at most 45 characters, a measurement's name and interval more."""
    free = max(30, width - _VERDICT_WIDTH - _GAPS)
    claim, measured = free * 9 // 25, free * 10 // 25
    return claim, measured, free - claim - measured, _VERDICT_WIDTH


def _wrapped(cell: str, width: int) -> str:
    """Lines that end at spaces and at the hyphens of names, where rich would cut a name anywhere."""
    return "\n".join(textwrap.wrap(cell, width))


def _verdict(finding: Finding, profile: str) -> Text:
    verdict, recorded = text.verdict_text(finding), text.recorded_text(finding, profile)
    cell = Text(verdict, style=STYLES[verdict])
    if recorded and verdict == recorded == Verdict.REFUTED:
        cell.append("\nas recorded", style="not bold")
    elif recorded and finding.judgement and verdict != recorded:
        cell.append(f"\nrecorded:\n{recorded}", style="not bold")
    return cell


def _reasons(findings: Mapping[str, Finding]) -> list[str]:
    """Why claims were not judged, a line for each reason."""
    claims: dict[tuple[str, str], int] = {}
    for finding in findings.values():
        if finding.judgement is None or finding.verdict is Verdict.NOT_JUDGED:
            key = (text.verdict_text(finding), finding.reason or "no reason is known")
            claims[key] = claims.get(key, 0) + 1
    return [f"{count} {verdict}: {reason}" for (verdict, reason), count in claims.items()]
