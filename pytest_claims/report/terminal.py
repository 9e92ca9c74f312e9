"""The claims as a table in the terminal."""

import textwrap
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_claims.report import text
from pytest_claims.report.conditions import Conditions
from pytest_claims.suite.judging import Finding
from pytest_claims.verdicts.verdict import Verdict

STYLES: Mapping[str, str] = {
    Verdict.REPRODUCED: "green",
    Verdict.REFUTED: "bold red",
    Verdict.EQUAL: "cyan",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_APPLICABLE: "dim",
    text.NOT_JUDGED: "bold magenta",
}
"""Colours of the verdicts, which are told in words, too."""

_HEADINGS = ("claim", "measured", "expected", "verdict")
_VERDICT_WIDTH = 17
_GAPS = 9
"""Columns that the table takes between and beside its four."""


def print_claims(findings: Mapping[str, Finding], conditions: Conditions, console: Console) -> None:
    """Prints a table of the claims for each section, why claims were not judged, and the count of each verdict.

    It is as wide as the console and, where that is no terminal, plain text.
    """
    outline = conditions.outline
    for section in outline.in_order(finding.claim.section for finding in findings.values()):
        shown = [finding for finding in findings.values() if finding.claim.section == section]
        console.print(_table(outline.section_title(section), shown, conditions.profile, console.width))
    for line in _reasons(findings):
        console.print(line, style="dim", highlight=False, markup=False)
    if numerics := text.other_numerics(findings, conditions):
        console.print(numerics, style="dim", highlight=False, markup=False)
    console.print(text.summary(findings, conditions.profile), style="bold", highlight=False, markup=False)


def _table(title: str, findings: list[Finding], profile: str, width: int) -> Table:
    table = Table(title=Text(title), title_style="bold", title_justify="left", box=None, padding=(0, 1), expand=False)
    widths = _widths(width)
    for heading, column_width in zip(_HEADINGS, widths, strict=True):
        table.add_column(heading, width=column_width, header_style="underline")
    for finding in findings:
        cells = (finding.claim.id, text.measured(finding), text.expected(finding))
        wrapped = [Text(_wrapped(cell, width)) for cell, width in zip(cells, widths[:3], strict=True)]
        table.add_row(*wrapped, _verdict(finding, profile))
    return table


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
        if finding.judgement is None:
            key = (text.verdict_text(finding), finding.reason or "no reason is known")
            claims[key] = claims.get(key, 0) + 1
    return [f"{count} {verdict}: {reason}" for (verdict, reason), count in claims.items()]
