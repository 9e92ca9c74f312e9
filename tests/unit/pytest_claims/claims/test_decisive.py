import pytest
from claim_entries import claim
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_claims.claims.decisive import decisive_part
from pytest_claims.verdicts.judging import Case, judge, judge_exact
from pytest_claims.verdicts.verdict import Judgement, Verdict

AT_LEAST_0 = claim("comparison", at_most=..., at_least=0)
AT_MOST_0 = claim("comparison", at_most=0)
EQUAL_WITHIN_1 = claim("comparison", at_most=..., above=0, equal_within=1)


def test_reproduced_rests_on_the_interval_nearest_to_the_edge_not_on_the_lowest_mean():
    judgement = judge(Case([(2.0, 2.1, 1.9), (2.5, 5.0, 4.0), (9.0, 9.1, 9.2)], AT_LEAST_0.region()))
    assert judgement.verdict is Verdict.REPRODUCED
    assert decisive_part(judgement, AT_LEAST_0) == 1


def test_inconclusive_rests_on_the_interval_that_reaches_farthest_out():
    judgement = judge(Case([(0.1, 0.2, -0.1), (1.0, -4.0, 5.0), (8.0, 8.1, 8.2)], AT_LEAST_0.region()))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert decisive_part(judgement, AT_LEAST_0) == 1


def test_practically_equal_rests_on_the_interval_nearest_to_the_margin():
    judgement = judge(Case([(-0.2, 0.0, -0.1), (0.5, 0.6, 0.4), (0.1, -0.1, 0.0)], EQUAL_WITHIN_1.region(), equality=1))
    assert judgement.verdict is Verdict.EQUAL
    assert decisive_part(judgement, EQUAL_WITHIN_1) == 1


samples = st.lists(st.integers(-40, 40).map(lambda value: value / 4), min_size=4, max_size=4)


@given(st.lists(samples.filter(lambda part: min(part) < max(part)), min_size=1, max_size=4))
@example([[-10.0, -5.0, -9.0, -4.0], [-2.0, -2.1, -2.05, -1.95]])
@settings(deadline=None, max_examples=50)
def test_refuted_rests_on_the_part_with_the_least_p_value(parts):
    judgement = judge(Case(parts, AT_LEAST_0.region()))
    p_values = [stats.ttest_1samp(part, 0, alternative="less").pvalue for part in parts]
    if judgement.verdict is Verdict.REFUTED:
        decisive = p_values[decisive_part(judgement, AT_LEAST_0)]
        assert decisive == pytest.approx(min(p_values))
        assert judgement.p_refuted == pytest.approx(min(1, len(parts) * decisive))


def test_a_part_without_spread_outside_is_farther_out_than_any_that_varies():
    judgement = judge(Case([(-5.0, -5.1, -5.2), (-1.0, -1.0, -1.0), (0.0, 0.0, 0.0)], AT_LEAST_0.region()))
    assert decisive_part(judgement, AT_LEAST_0) == 1


def test_of_exact_numbers_the_farthest_from_the_region():
    about_100 = claim("comparison", at_least=90, at_most=110)
    for parts in ([[120.0], [80.0], [70.0], [100.0]], [[101.0], [93.0], [109.0]]):
        assert decisive_part(judge_exact(parts, about_100.region()), about_100) == 2


def test_of_single_seeds_the_mean_nearest_to_the_edge_or_beyond():
    judgement = judge(Case([(3.0,), (-2.0,), (1.0,)], AT_LEAST_0.region()))
    assert isinstance(judgement, Judgement)
    assert decisive_part(judgement, AT_LEAST_0) == 1
    assert decisive_part(judge(Case([(-3.0,), (2.0,)], AT_MOST_0.region())), AT_MOST_0) == 1
