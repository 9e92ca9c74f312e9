import math
from itertools import pairwise

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from our_project import make_finding

from pytest_claims.claims.decisive import decisive_part
from pytest_claims.report import text
from pytest_claims.report.tables import READABLE, claims_table, measurements_table, write_tables
from pytest_claims.verdicts.verdict import Verdict


@pytest.fixture(scope="module")
def table(findings):
    return claims_table(findings, "default").set_index("claim", drop=False)


def test_every_claim_has_one_row_in_order(table, claims):
    assert table["claim"].tolist() == [claim.id for claim in claims]
    assert table["statement"].tolist() == [claim.statement for claim in claims]


def test_numbers_are_those_of_the_judgement(table, findings):
    for name, finding in findings.items():
        row = table.loc[name]
        if finding.judgement is None:
            assert row[["mean", "lower", "upper", "confidence", "n", "p_refuted", "seeds_needed"]].isna().all()
            assert row["reason"] == finding.reason
            continue
        part = finding.judgement.estimates[decisive_part(finding.judgement, finding.claim)]
        assert (row["mean"], row["lower"], row["upper"], row["n"]) == (part.mean, part.lower, part.upper, part.n)
        assert row["confidence"] == part.confidence
        assert row["p_refuted"] == finding.judgement.p_refuted
        needed = finding.judgement.seeds_needed
        assert pd.isna(row["seeds_needed"]) if needed is None else row["seeds_needed"] == needed
        assert row["verdict"] == text.verdict_text(finding)


def test_runs_are_the_keys_of_all_runs_behind_a_claim(table, findings):
    finding = findings["q2-better-teacher-better-student"]
    keys = table.loc[finding.claim.id, "runs"].split()
    assert keys == [run.key[:12] for model in finding.claim.needed_models() for run in finding.runs[model]]
    assert len(set(keys)) == 10


def test_one_seed_has_no_interval(judged):
    table = claims_table(judged(seeds=1), "default").set_index("claim")
    row = table.loc["q2-better-teacher-better-student"]
    assert row[["lower", "upper"]].isna().all()
    assert math.isfinite(row["mean"])
    assert row["n"] == 1


def test_measurements_have_a_row_for_each_model_and_seed(findings, make_run):
    table = measurements_table(findings)
    assert not table.duplicated(["model", "seed"]).any()
    assert table.groupby("model")["seed"].nunique().to_dict() == {
        model: 5 if "accuracy" in make_run(model, 0).measurements else 1 for model in table["model"]
    }
    for row in table.to_dict("records"):
        run = make_run(row["model"], row["seed"])
        assert (row["key"], row["folder"]) == (run.key, str(run.folder))
        kept = {name: row[name] for name in run.measurements}
        assert kept == run.measurements
        others = set(row) - set(run.measurements) - {"model", "seed", "key", "folder"}
        assert all(pd.isna(row[name]) for name in others)


def test_without_findings_the_tables_have_their_columns_and_no_rows():
    assert claims_table({}, "default").columns.tolist()[:3] == ["claim", "section", "statement"]
    assert measurements_table({}).columns.tolist() == ["model", "seed", "key", "folder"]
    assert claims_table({}, "default").empty
    assert measurements_table({}).empty


def test_csv_files_parse_back(findings, conditions, tmp_path):
    paths = write_tables(findings, conditions, tmp_path)
    assert [path.name for path in paths] == ["claims.csv", "claims.md", "measurements.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    claims, measurements = (pd.read_csv(paths[index], keep_default_na=True) for index in (0, 2))
    written = claims_table(findings, "default")
    for name in ("claim", "statement", "measured", "expected", "verdict", "source"):
        assert claims[name].tolist() == written[name].tolist()
    for name in ("mean", "lower", "upper", "confidence", "n", "p_refuted", "seeds_needed"):
        assert claims[name].tolist() == pytest.approx(written[name].astype("float64").tolist(), nan_ok=True)
    accuracy = measurements_table(findings)["accuracy"]
    assert measurements["accuracy"].tolist() == pytest.approx(accuracy.tolist(), nan_ok=True)
    assert "256779,0" not in paths[2].read_text()


def markdown_rows(source):
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    cells, rows = [], []
    for before, token in pairwise(tokens):
        if before.type in ("td_open", "th_open"):
            assert {child.type for child in token.children} <= {"text", "text_special", "code_inline"}
            cells.append("".join(child.content for child in token.children))
        if token.type == "tr_close":
            rows.append(cells)
            cells = []
    return rows


def test_markdown_parses_back_to_the_same_rows(findings, conditions, tmp_path):
    source = write_tables(findings, conditions, tmp_path)[1].read_text()
    table = claims_table(findings, "default")
    assert markdown_rows(source) == [READABLE, *table[READABLE].to_numpy().tolist()]
    assert text.summary(findings, "default") in source
    assert conditions.title in source


def test_markdown_keeps_hostile_text_in_its_cell(claims, conditions, tmp_path):
    statement = "a | b \\| c\nd <script>alert(1)</script> <= 5"
    claim = claims[0].model_copy(update={"statement": statement})
    findings = {claim.id: make_finding(claim, Verdict.NOT_APPLICABLE, None, {})}
    source = write_tables(findings, conditions, tmp_path)[1].read_text()
    _, row = markdown_rows(source)
    assert row[1] == " ".join(statement.split())
    assert "<script" not in MarkdownIt("commonmark").enable("table").render(source)


@pytest.mark.parametrize("statement", ["84.10", "1e5", "2,233,995.0"])
def test_markdown_does_not_rewrite_numbers(claims, conditions, tmp_path, statement):
    claim = claims[0].model_copy(update={"statement": statement})
    source = write_tables({"x": make_finding(claim, None, None, {})}, conditions, tmp_path)[1].read_text()
    assert markdown_rows(source)[1][1] == statement
