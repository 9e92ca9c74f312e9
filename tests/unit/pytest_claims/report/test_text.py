import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from our_project import make_finding

from pytest_claims.claims.accuracy import AccuracyClaim
from pytest_claims.claims.claims_file import record
from pytest_claims.claims.comparison import ComparisonClaim
from pytest_claims.claims.counts import ParametersClaim
from pytest_claims.claims.curve import CurveClaim
from pytest_claims.claims.size import SizeClaim
from pytest_claims.report import text
from pytest_claims.verdicts.estimates import Estimate, estimate
from pytest_claims.verdicts.judging import Case, judge, judge_exact, judge_suite
from pytest_claims.verdicts.looks import Looks
from pytest_claims.verdicts.verdict import Verdict

ABOUT = {"id": "q1-x", "section": "question 1", "source": "ours", "statement": "s"}
COUNT = ParametersClaim(kind="parameters", models=("a", "b"), equals=256_779, **ABOUT)
RATIO = SizeClaim(kind="size", measure="bytes", pairs=(("a", "b"),), ratio_at_least=3.9, **ABOUT)
PERCENT = AccuracyClaim(kind="accuracy", model="a", published=84.0, tolerance=1.0, **ABOUT)
CORRELATION = AccuracyClaim(kind="accuracy", model="a", measure="size_error_correlation", at_least=0.0, **ABOUT)
POINTS = ComparisonClaim(kind="comparison", pairs=(("a", "b"),), at_most=0.5, **ABOUT)
BETTER = ComparisonClaim(kind="comparison", pairs=(("a", "b"),), above=0.0, equal_within=0.5, **ABOUT)
FALLING = CurveClaim(kind="curve", shape="falling", models=("a", "b", "c"), margin=0.5, **ABOUT)


def unjudged(claim):
    return make_finding(claim, None, None, {})


def found(claim, parts):
    judgement = judge(Case(parts, claim.region(), equality=claim.equality()))
    return make_finding(claim, judgement.verdict, judgement, {})


def found_exactly(claim, parts):
    judgement = judge_exact(parts, claim.region())
    return make_finding(claim, judgement.verdict, judgement, {})


@pytest.mark.parametrize(
    ("of", "part", "expected"),
    [
        (PERCENT, Estimate(84.3149, 0.5, 5, 83.9, 84.7249, 0.9), "84.31 [83.90, 84.72]"),
        (PERCENT, Estimate(84.3149, None, 1, float("-inf"), float("inf"), 0.9), "84.31 (1 seed)"),
        (POINTS, Estimate(-0.31, 0.5, 5, -0.7, 0.1, 0.9), "-0.31 [-0.70, 0.10] points"),
        (POINTS, Estimate(0.3, None, 1, float("-inf"), float("inf"), 0.9), "0.30 points (1 seed)"),
        (POINTS, Estimate(-0.31, 0.5, 5, -0.7, 0.1, 0.95), "-0.31 [95 %: -0.70, 0.10] points"),
        (POINTS, Estimate(-0.31, 0.5, 40, -0.7, 0.1, 0.99375), "-0.31 [99.375 %: -0.70, 0.10] points"),
        (CORRELATION, Estimate(-0.41239, 0.1, 5, -0.5, -0.30049, 0.9), "-0.412 [-0.500, -0.300]"),
        (COUNT, Estimate(256779.0, None, 1, 256779.0, 256779.0, 1.0), "256,779"),
        (COUNT, Estimate(1500.0, None, 2, 1000.0, 2000.0, 1.0), "1,000 to 2,000"),
        (RATIO, Estimate(3.99721, None, 1, 3.99721, 3.99721, 1.0), "4.00 times"),
        (RATIO, Estimate(43.547, None, 1, 43.547, 43.547, 1.0), "43.5 times"),
        (RATIO, Estimate(0.99234, None, 1, 0.99234, 0.99234, 1.0), "0.992 times"),
    ],
)
def test_estimates_read_as_their_claim_counts(of, part, expected):
    assert text.estimate_text(unjudged(of), part) == expected


def test_a_number_just_beyond_an_edge_is_not_rounded_onto_it():
    assert text.number_text(unjudged(POINTS), 0.502) == "0.502"
    assert text.number_text(unjudged(POINTS), 0.5) == "0.50"
    assert text.number_text(unjudged(RATIO), 3.8996) == "3.8996"


def test_binary_noise_at_an_edge_is_not_shown():
    better = ComparisonClaim(kind="comparison", pairs=(("a", "b"),), above=0.0, **ABOUT)
    assert text.number_text(unjudged(better), 0.1 + 0.2 - 0.3) == "0.00"
    assert text.number_text(unjudged(better), -1e-17) == "0.00"


@given(st.floats(-120, 120))
@settings(deadline=None, max_examples=50)
def test_numbers_parse_back_on_the_same_side_of_every_edge(value):
    shown = text.number_text(unjudged(PERCENT), value)
    assert re.fullmatch(r"-?\d+\.\d{2,6}", shown)
    assert float(shown) == pytest.approx(value, abs=0.005001)
    for edge in (83.0, 85.0):
        if abs(value - edge) > 1e-6:
            assert (float(shown) > edge, float(shown) < edge) == (value > edge, value < edge)


@given(st.integers(0, 10**12))
@settings(deadline=None, max_examples=50)
def test_counts_are_whole_with_thousands_separators(count):
    shown = text.number_text(unjudged(COUNT), float(count))
    assert int(shown.replace(",", "")) == count
    assert [len(group) for group in shown.split(",")[1:]] == [3] * shown.count(",")


@given(st.floats(1e-3, 1e5))
@settings(deadline=None, max_examples=50)
def test_ratios_keep_three_digits(ratio):
    assert float(text.number_text(unjudged(RATIO), ratio).replace(",", "")) == pytest.approx(ratio, rel=0.0051)


def test_nothing_is_shown_as_minus_zero():
    assert text.number_text(unjudged(PERCENT), -0.001) == "0.00"


def test_of_several_parts_the_decisive_one_comes_with_its_name():
    finding = found(FALLING, [(-4.0, -4.1, -4.2), (0.2, 0.3, 0.25)])
    assert text.measured(finding) == f"{text.estimate_text(finding, estimate((0.2, 0.3, 0.25)))}, c - b (worst of 2)"


def test_equal_parts_are_told_at_once():
    assert text.measured(found_exactly(COUNT, [(256_779.0,), (256_779.0,)])) == "256,779 (each of 2)"


def test_expected_is_what_the_report_says():
    assert text.expected(found(POINTS, [(0.1, 0.2)])) == "<= 0.5 points"


def test_explanation_of_reproduced():
    explained = text.explanation(found(POINTS, [(0.1, 0.2, 0.15)]))
    assert re.fullmatch(r"measured over 3 seeds 0\.15 \[.*\] points; expected <= 0\.5 points; reproduced", explained)


def test_explanation_of_refuted_has_the_p_value():
    finding = found(POINTS, [(2.1, 2.3, 1.9)])
    assert finding.judgement.p_refuted == pytest.approx(0.00258, abs=1e-5)
    assert text.explanation(finding).endswith("refuted, p = 0.0026")


def test_explanation_of_an_exact_refutation_needs_no_p_value():
    explained = text.explanation(found_exactly(COUNT, [(256_779.0,), (256_780.0,)]))
    assert explained == "measured 256,780, b (worst of 2); expected 256,779; refuted"


def test_explanation_of_inconclusive_tells_the_seeds_that_would_decide():
    finding = found(POINTS, [(0.2, 0.6, 0.1)])
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert text.explanation(finding).endswith(f"inconclusive, {finding.judgement.seeds_needed} seeds would decide it")


def test_explanation_of_practically_equal_tells_the_margin():
    explained = text.explanation(found(BETTER, [(0.2, -0.1, 0.1, 0.0)]))
    ends = "; expected > 0 points; practically equal, no difference of more than 0.5 points"
    assert explained.startswith("measured over 4 seeds 0.05 [")
    assert explained.endswith(ends)


def test_numbers_of_a_claim_in_python_have_the_words_of_every_verdict():
    assert text.judged_text(judge(Case([[0.2, -0.1, 0.1, 0.0]], BETTER.region(), equality=0.5)), "> 0", 0.5) == (
        "measured 0.05 [-0.1019, 0.2019] over 4 seeds; expected > 0; practically equal, no difference of more than 0.5"
    )
    looked = judge(Case([[0.2, -0.1, 0.1, 0.0]], BETTER.region()), Looks(4))
    assert text.judged_text(looked, "> 0").startswith("measured 0.05 [95 %: -0.1554, 0.2554] over 4 seeds; expected")
    assert text.judged_text(judge(Case([[0.2]], BETTER.region())), "> 0").startswith("measured 0.2 (1 seed); expected")


def test_a_number_just_beyond_the_margin_of_equality_is_not_rounded_onto_it():
    assert [text.number_text(unjudged(BETTER), sign * 0.499) for sign in (1, -1)] == ["0.499", "-0.499"]


def test_explanation_tells_of_a_refutation_that_correction_took_back():
    suite = {"x": Case([(1.0, 1.4, 1.2)], POINTS.region())}
    judgement = judge_suite(suite, family_size=50)["x"]
    explained = text.explanation(make_finding(POINTS, judgement.verdict, judgement, {}))
    assert f"inconclusive ({text.p_text(judgement.p_refuted)} of a refutation)" in explained


def test_explanation_of_one_seed_and_of_a_hopeless_tie():
    assert text.explanation(found(POINTS, [(0.1,)])).endswith(
        "inconclusive, since one seed does not tell how much seeds differ"
    )
    assert text.explanation(found(POINTS, [(0.4, 0.6)])).endswith("inconclusive, more than 1,000 seeds would be needed")


def test_explanation_of_what_was_not_judged_is_its_reason():
    finding = make_finding(POINTS, None, None, {}, "run a (seed 0) is not in the store")
    assert text.explanation(finding) == "run a (seed 0) is not in the store"
    assert text.measured(finding) == "not measured"
    assert text.verdict_text(finding) == "not judged"


@given(st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_p_values_keep_two_digits(p_value):
    shown = text.p_text(p_value)
    if p_value < 0.0001:
        assert shown == "p < 0.0001"
    else:
        assert float(shown.removeprefix("p = ")) == pytest.approx(p_value, rel=0.051)
        assert "e" not in shown


def test_summary_counts_every_verdict(findings):
    counts = {verdict: sum(f.verdict == verdict for f in findings.values()) for verdict in Verdict}
    assert all(counts.values()), "the synthetic findings should have every verdict"
    assert text.summary(findings, "another profile") == (
        f"{counts[Verdict.REPRODUCED]} reproduced, {counts[Verdict.REFUTED]} refuted (0 as recorded), "
        f"{counts[Verdict.EQUAL]} practically equal, "
        f"{counts[Verdict.INCONCLUSIVE]} inconclusive, {counts[Verdict.NOT_APPLICABLE]} not applicable"
    )


def test_summary_counts_refutations_as_recorded_for_this_profile_only():
    finding = found(POINTS, [(2.1, 2.3, 1.9)])
    claim = POINTS.model_copy(update={"recorded": {"default": record(finding.judgement, "torch 1")}})
    recorded = make_finding(claim, finding.verdict, finding.judgement, {})
    both = {"a": recorded, "b": finding, "c": make_finding(POINTS, None, None, {})}
    assert text.summary(both, "default") == "2 refuted (1 as recorded), 1 not judged"
    assert text.summary(both, "quick") == "2 refuted (0 as recorded), 1 not judged"
    assert text.recorded_text(recorded, "default") == "refuted"
    assert text.recorded_text(recorded, "quick") == ""


def test_summary_of_nothing():
    assert text.summary({}, "default") == "no claims"
