"""`docs/report.md` against the claims: what the report says, which claims check it, and how sharply.

Its tables of statements have the columns statement | numbers | claims | why not; the last one, of how published
accuracies vary, kind | public runs | s | tolerance | claims.
"""

import math
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from our_project import make_profile
from scipy import integrate, optimize, stats

from pytest_claims.claims.claims_file import load_claims
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.profile import ProfileRequest
from pytest_claims.verdicts.judging import Case, judge
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Verdict

STATEMENTS = ("statement", "numbers", "claims", "why not")
KINDS = ("kind", "public runs", "s", "tolerance", "claims")
CLAIMS = {claim.id: claim for claim in load_claims(ROOT / "expected_results.json").claims}
LEAST, MOST = 0.9, 0.95
"""The probability that a true number is reproduced; more would be a tolerance wider than it need be."""


def rows(header):
    """Cells of all rows below a header, as {column: text}, with the title of the part that they stand in."""
    found, title, inside = [], "", False
    for line in (ROOT / "docs/report.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        title = line.removeprefix("## ") if line.startswith("## ") else title
        if inside and cells and set("".join(cells)) - set("-"):
            found.append(dict(zip(header, cells, strict=True)) | {"part": title})
        inside = bool(cells) and (inside or cells == list(header))
    return found


def listed(cell, separator=","):
    return [item.strip() for item in cell.split(separator) if item.strip()]


def numbers_in(text):
    return {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


def told(claim):
    """All numbers of a claim: in its words and in its bounds."""
    fields = claim.model_dump(mode="json", exclude={"recorded", "id"})
    stated = {float(value) for value in fields.values() if isinstance(value, int | float)}
    return stated | numbers_in(claim.statement) | numbers_in(claim.note or "")


STATED = rows(STATEMENTS)
VARYING = rows(KINDS)


def test_every_claim_stands_beside_what_it_checks_and_every_id_there_is_a_claims():
    assert {id_ for row in STATED for id_ in listed(row["claims"])} == set(CLAIMS)


def test_a_statement_has_claims_or_a_reason_why_not():
    for row in STATED:
        assert row["claims"] or row["why not"].endswith("."), row["statement"]


def test_every_number_of_the_report_is_a_claims_or_has_a_reason_why_not():
    for row in STATED:
        known = set().union(*(told(CLAIMS[id_]) for id_ in listed(row["claims"])))
        for number in listed(row["numbers"], ";"):
            assert numbers_in(number) <= known or row["why not"], f"{number} of {row['statement']}"


def test_every_number_that_a_claim_asks_for_by_itself_is_among_the_reports():
    numbers = set().union(*(numbers_in(number) for row in STATED for number in listed(row["numbers"], ";")))
    asked = [getattr(claim, field, None) for claim in CLAIMS.values() for field in ("published", "equals")]
    assert {number for number in asked if number is not None} <= numbers


def test_claims_stand_under_their_question_or_their_source():
    of_part = {
        "The course": "the course",
        "Other public reports of the same homework": "other reports",
        "Ours": "ours",
        "Controls": "ours",
    }
    for row in STATED:
        for id_ in listed(row["claims"]):
            claim = CLAIMS[id_]
            if row["part"] in of_part:
                assert claim.source == of_part[row["part"]], id_
            elif row["part"] != "Data":
                assert claim.source == ("the course" if "as the homework asks" in row["statement"] else "the report")
                assert row["part"].startswith("Question"), id_


def test_rows_of_question_3_are_told_in_full():
    """The multiplier of row k is rate^k; each row has a count and an accuracy."""
    found = [row for row in STATED if re.match(r"Rate 0\.\d+, row", row["statement"])]
    assert len(found) == 10
    for row in found:
        rate, step = re.match(r"Rate (0\.\d+), row (\d)", row["statement"]).groups()
        multiplier, parameters, accuracy = (numbers_in(number) for number in listed(row["numbers"], ";"))
        assert multiplier == {round(float(rate) ** int(step), 4)}
        count, published = (CLAIMS[id_] for id_ in listed(row["claims"]))
        assert ({count.equals}, {published.published}) == (parameters, accuracy)


def probability(ratio, seeds):
    """That a true published number is reproduced, its tolerance being `ratio` standard deviations.

    The mean's distance from the published number is normal with variance 1 + 1/n and independent of the sample's
    variance, over which is integrated.
    """
    quantile = stats.t.ppf(0.95, seeds - 1) / math.sqrt(seeds)

    def given(sum_of_squares):
        room = ratio - quantile * math.sqrt(sum_of_squares / (seeds - 1))
        within = 2 * stats.norm.cdf(room / math.sqrt(1 + 1 / seeds)) - 1
        return within * stats.chi2.pdf(sum_of_squares, seeds - 1)

    return integrate.quad(given, 0, (seeds - 1) * (ratio / quantile) ** 2)[0]


@pytest.mark.parametrize(("seeds", "ratio"), [(3, 3.8), (5, 2.8)])
def test_the_probability_is_that_of_the_verdict(seeds, ratio):
    runs = np.random.default_rng(0).normal(size=(2_000, seeds + 1))
    cases = [Case([ours], Region(published - ratio, published + ratio)) for published, *ours in runs]
    verdicts = [judge(case).verdict for case in cases]
    share = verdicts.count(Verdict.REPRODUCED) / len(verdicts)
    assert share == pytest.approx(probability(ratio, seeds), abs=0.03)  # four standard errors


def test_the_table_of_least_tolerances_is_right():
    (least_ratios,) = rows(("seeds", *"3456"))
    for number in "3456":
        least = optimize.brentq(lambda ratio, n=int(number): probability(ratio, n) - LEAST, 1, 10)
        assert float(least_ratios[number]) == round(least, 2)


def test_a_spread_is_that_of_the_public_runs_rounded_up():
    for row in VARYING:
        groups = [
            [float(run) for run in listed(group)] for group in listed(row["public runs"], ";") if numbers_in(group)
        ]
        if groups:
            squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups)
            spread = math.sqrt(squares / sum(len(group) - 1 for group in groups))
            assert float(row["s"]) == math.ceil(10 * spread) / 10, row["kind"]
    (other,) = (row for row in VARYING if not numbers_in(row["public runs"]))
    assert other["s"] == next(row["s"] for row in VARYING if f"as {row['kind']}" == other["public runs"])


def tolerance(claim):
    region = claim.region()
    return (region.upper - region.lower) / 2


def test_a_true_published_number_is_reproduced_nine_times_of_ten():
    profile = make_profile("food11", ProfileRequest(data_root=Path("images")))
    assert profile.minutes is None, "where seeds are added, each look has a wider interval than `probability` takes"
    seeds = len(profile.seeds)
    of_kinds = [(id_, row) for row in VARYING for id_ in listed(row["claims"])]
    assert sorted(id_ for id_, _ in of_kinds) == sorted(id_ for id_, claim in CLAIMS.items() if claim.data == "food-11")
    for id_, row in of_kinds:
        assert tolerance(CLAIMS[id_]) == pytest.approx(float(row["tolerance"])), id_
        assert LEAST <= probability(float(row["tolerance"]) / float(row["s"]), seeds) <= MOST, id_
        assert probability((float(row["tolerance"]) - 0.1) / float(row["s"]), seeds) < LEAST, id_


def test_a_published_difference_is_in_the_middle_of_its_bounds():
    claim = CLAIMS["q1-published-8bit-drop"]
    before, after = CLAIMS["q2-published-teacher-finetuned"].published, CLAIMS["q1-published-8bit"].published
    assert (claim.at_least + claim.at_most) / 2 == pytest.approx(before - after)
