import io
import re
from dataclasses import replace

import pytest
from our_project import make_finding
from rich.console import Console

from pytest_claims.claims.claims_file import record
from pytest_claims.report import text
from pytest_claims.report.conditions import Conditions, Outline
from pytest_claims.report.terminal import print_claims

SECTIONS = {"controls": "Its controls"} | {
    f"question {number}": f"Question {number}: its title" for number in (1, 2, 3, 4)
}
NUMERICS = "torch 2.14.1, cpu, x86_64 avx2, 1 thread"
CONDITIONS = Conditions("default", "fractal", (0, 1, 2, 3, 4), NUMERICS, Outline(sections=SECTIONS))


def printed(findings, width, conditions=CONDITIONS, **options):
    stream = io.StringIO()
    print_claims(findings, conditions, Console(file=stream, width=width, **options))
    return stream.getvalue()


def joined(output):
    """All of it without spaces and line ends, in which a wrapped id is whole."""
    return re.sub(r"\s+", "", output)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_width_and_are_plain_where_there_is_no_terminal(findings, width):
    output = printed(findings, width)
    assert max(map(len, output.splitlines())) <= width
    assert "\x1b" not in output
    assert output.isascii()


def test_wide_output_has_every_claim_on_a_row_of_its_own(findings):
    rows = printed(findings, 300).splitlines()
    for name, finding in findings.items():
        (row,) = [row for row in rows if row.split()[:1] == [name]]
        assert text.measured(finding) in row
        assert row.rstrip().endswith(text.verdict_text(finding))


def test_names_wrap_at_hyphens(findings):
    first_column = [line[:22].strip() for line in printed(findings, 80).splitlines()]
    wrapped = [part for part in first_column if part.endswith("-")]
    assert len(wrapped) > 10
    whole = "".join(first_column)
    assert all(name in whole for name in findings)


def test_claims_are_grouped_by_section(findings):
    output = printed(findings, 120)
    places = [output.index(title) for title in SECTIONS.values()]
    assert places == sorted(places)
    assert places[2] < output.index("q2-teacher-parameters") < places[3]


def test_sections_come_in_the_reports_order_and_have_their_names_where_it_has_no_titles(findings):
    turned = Outline(sections=dict(reversed(SECTIONS.items())))
    output = printed(findings, 120, replace(CONDITIONS, outline=turned))
    places = [output.index(title) for title in SECTIONS.values()]
    assert places == sorted(places, reverse=True)
    untitled = printed(findings, 120, replace(CONDITIONS, outline=Outline())).splitlines()
    assert [line.strip() for line in untitled if line.startswith(("controls", "question "))] == list(SECTIONS)


def test_claims_of_a_section_are_grouped_by_source_where_the_report_tells_sources_apart(findings):
    sources = {"ours": "We", "the report": "They", "the course": "It"}
    outline = Outline(sections=SECTIONS, sources=sources)
    told = printed(findings, 300, replace(CONDITIONS, outline=outline)).split(SECTIONS["question 2"])[1]
    lines = [line.strip() for line in told.split(SECTIONS["question 3"])[0].splitlines()]
    headings = [line for line in lines if line.removesuffix(":") in sources]
    assert headings == ["ours:", "the report:", "the course:"]
    group, heading = {}, ""
    for line in filter(None, lines):
        heading = line if line in headings else heading
        group[line.split()[0]] = heading
    shown = {name: finding for name, finding in findings.items() if finding.claim.section == "question 2"}
    assert {name: group[name] for name in shown} == {name: f"{each.claim.source}:" for name, each in shown.items()}


def test_without_sources_of_the_report_claims_stand_in_their_own_order(findings):
    rows = [line.split()[0] for line in printed(findings, 300).splitlines() if line.startswith((" q", " control"))]
    assert rows == list(findings)


def test_the_last_line_is_the_summary(findings):
    assert printed(findings, 120).splitlines()[-1] == text.summary(findings, "default")


def test_why_claims_were_not_judged_is_told_once_a_reason(findings):
    applicable = [name for name, finding in findings.items() if finding.judgement is None]
    lines = printed(findings, 120).splitlines()
    assert f"{len(applicable)} not applicable: food-11 numbers are not judged on fractal data" in lines


def test_a_reason_with_brackets_is_no_markup(claims):
    finding = make_finding(claims[0], None, None, {}, "a [red]b[/red] [/x]: list index [0]")
    assert "1 not judged: a [red]b[/red] [/x]: list index [0]" in printed({"x": finding}, 120)


def test_a_terminal_gets_colours_and_words(findings):
    output = printed(findings, 120, force_terminal=True, color_system="standard")
    assert "\x1b[32mreproduced" in output
    assert "\x1b[1;31mrefuted" in output


def test_what_was_recorded_is_told_where_it_is_as_refuted_or_other(findings):
    def recorded(name, of):
        finding = findings[name]
        claim = finding.claim.model_copy(update={"recorded": {"default": record(findings[of].judgement, NUMERICS)}})
        return make_finding(claim, finding.verdict, finding.judgement, finding.runs)

    refuted, reproduced = "q1-small-weights-lose-less", "q2-student-alone-below-teacher"
    assert "asrecorded" in joined(printed({"x": recorded(refuted, refuted)}, 120)).split("refuted(")[0]
    assert "recorded:reproduced" in joined(printed({"x": recorded(refuted, reproduced)}, 120))
    assert "recorded:refuted" in joined(printed({"x": recorded(reproduced, refuted)}, 120))
    assert "recorded" not in printed({"x": recorded(reproduced, reproduced)}, 120)


def test_records_of_another_machine_are_told(findings):
    finding = findings["q1-small-weights-lose-less"]
    recorded = {"default": record(finding.judgement, "torch 2.9.1, cpu, aarch64 asimd, 1 thread")}
    other = make_finding(
        finding.claim.model_copy(update={"recorded": recorded}), finding.verdict, finding.judgement, {}
    )
    line = " ".join(printed({"x": other}, 120).split())
    assert "1 records beside which verdicts are shown were made on torch 2.9.1, cpu, aarch64 asimd, 1 thread" in line
    assert f"these on {NUMERICS}" in line
