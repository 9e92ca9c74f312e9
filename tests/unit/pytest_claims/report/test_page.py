from dataclasses import replace
from html.parser import HTMLParser

import pytest
from our_project import make_finding

from experiments.plots import PLOTS
from pytest_claims.report import text
from pytest_claims.report.page import render_page, write_page
from pytest_claims.verdicts.verdict import Verdict

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that elements nest, and collects attributes and text by element."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(findings, conditions):
    return Page(render_page(findings, conditions, []))


def test_every_claim_has_an_article_with_its_verdict(page, findings):
    articles = {attributes["id"]: attributes["class"].split() for attributes in page.all("article")}
    assert list(articles) == list(findings)
    for name, finding in findings.items():
        assert text.verdict_text(finding).replace(" ", "-") in articles[name]


def test_the_text_says_what_was_measured_claimed_and_why(page, findings, conditions):
    for finding in findings.values():
        parts = (finding.claim.statement, finding.claim.note or "", finding.claim.source)
        for part in (*parts, text.measured(finding), text.expected(finding), text.conclusion(finding)):
            assert " ".join(part.split()) in page.text
    assert text.summary(findings, "default") in page.text
    assert conditions.title in page.text


def test_runs_are_told_with_key_folder_and_measurements(page, findings):
    for runs in findings["q2-better-teacher-better-student"].runs.values():
        for run in runs:
            assert run.key[:12] in page.text
            assert str(run.folder) in page.text
            assert f"{run.measurements['accuracy']:.3f}" in page.text
            assert f"{run.measurements['bytes']:,}" in page.text


def test_each_part_of_a_curve_is_told(page, findings):
    finding = findings["q3-rate-90-bn-accuracy-falls"]
    for part in finding.judgement.estimates:
        assert text.estimate_text(finding, part) in page.text


def test_the_page_is_accessible_and_needs_nothing_else(page):
    assert page.all("html")[0]["lang"] == "en"
    assert {attributes.get("scope") for attributes in page.all("th")} == {"row", "col"}
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == 5
    assert not page.all("script")
    assert not page.all("link")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for attributes in page.all("a")}
    assert links <= {f"#{name}" for name in ids}


def test_who_states_what_is_counted_and_each_claim_has_its_label(page, findings, conditions):
    labels = [attributes for attributes in page.all("span") if attributes.get("class") == "source"]
    assert len(labels) == len(findings)
    assert "Claims by source and verdict" in page.text
    known = [*map(str, Verdict), *text.CONTROL_WORDS.values()]
    found = {text.verdict_text(finding) for finding in findings.values()}
    columns = [verdict for verdict in known if verdict in found]
    for name, description in conditions.outline.sources.items():
        verdicts = [text.verdict_text(finding) for finding in findings.values() if finding.claim.source == name]
        counts = [verdicts.count(verdict) or "\N{EN DASH}" for verdict in columns]
        assert " ".join(map(str, (name, description, *counts))) in page.text


def test_without_sources_of_the_report_each_claim_says_its_own(findings, conditions):
    outline = replace(conditions.outline, sources={})
    page = Page(render_page(findings, replace(conditions, outline=outline), []))
    assert "Claims by source" not in page.text
    assert page.text.count("Source: ") == len(findings)


def test_hostile_text_is_escaped(findings, conditions):
    finding = findings["q2-better-teacher-better-student"]
    hostile = "<script>alert('x')</script> & \"<b>"
    claim = finding.claim.model_copy(update={"statement": hostile, "note": hostile, "source": hostile})
    changed = {
        "x": make_finding(claim, finding.verdict, finding.judgement, finding.runs),
        "y": make_finding(claims_copy(finding, "q2-y"), None, None, {}, hostile),
    }
    page = Page(render_page(changed, conditions, []))
    assert not page.all("script")
    assert not page.all("b")
    assert page.text.count(hostile) == 5


def claims_copy(finding, name):
    return finding.claim.model_copy(update={"id": name})


def test_plots_are_inlined_with_their_captions(findings, conditions, tmp_path):
    (tmp_path / "question3.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "question3.png").write_bytes(b"png")
    path = write_page(findings, conditions, [tmp_path / "question3.png", tmp_path / "question3.svg"], tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    (image,) = Page(path.read_text()).all("img")
    caption = next(plot.caption for plot in PLOTS if plot.name == "question3")
    assert image["alt"] == caption
    assert image["src"].startswith("data:image/svg+xml;base64,PHN2Zy")


def test_without_plots_there_are_no_pictures(page):
    assert not page.all("img")
    assert not page.all("figure")


def test_a_page_without_findings_is_a_page(conditions):
    page = Page(render_page({}, conditions, []))
    assert "no claims" in page.text
    assert not page.all("article")
