import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_claims.report.decisive import decisive_part
from pytest_claims.verdicts.verdicts import Judgement, Region, Verdict, judge, judge_exact

AT_LEAST_0 = Region(lower=0)


def test_reproduced_rests_on_the_interval_nearest_to_the_edge_not_on_the_lowest_mean():
    judgement = judge([(2.0, 2.1, 1.9), (2.5, 5.0, 4.0), (9.0, 9.1, 9.2)], AT_LEAST_0)
    assert judgement.verdict is Verdict.REPRODUCED
    assert decisive_part(judgement, AT_LEAST_0) == 1


def test_inconclusive_rests_on_the_interval_that_reaches_farthest_out():
    judgement = judge([(0.1, 0.2, -0.1), (1.0, -4.0, 5.0), (8.0, 8.1, 8.2)], AT_LEAST_0)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert decisive_part(judgement, AT_LEAST_0) == 1


samples = st.lists(st.integers(-40, 40).map(lambda value: value / 4), min_size=4, max_size=4)


@given(st.lists(samples.filter(lambda part: min(part) < max(part)), min_size=1, max_size=4))
@example([[-10.0, -5.0, -9.0, -4.0], [-2.0, -2.1, -2.05, -1.95]])
@settings(deadline=None, max_examples=50)
def test_refuted_rests_on_the_part_with_the_least_p_value(parts):
    judgement = judge(parts, AT_LEAST_0)
    p_values = [stats.ttest_1samp(part, 0, alternative="less").pvalue for part in parts]
    if judgement.verdict is Verdict.REFUTED:
        decisive = p_values[decisive_part(judgement, AT_LEAST_0)]
        assert decisive == pytest.approx(min(p_values))
        assert judgement.p_refuted == pytest.approx(min(1, len(parts) * decisive))


def test_a_part_without_spread_outside_is_farther_out_than_any_that_varies():
    judgement = judge([(-5.0, -5.1, -5.2), (-1.0, -1.0, -1.0), (0.0, 0.0, 0.0)], AT_LEAST_0)
    assert decisive_part(judgement, AT_LEAST_0) == 1


def test_of_exact_numbers_the_farthest_from_the_region():
    region = Region(90, 110)
    assert decisive_part(judge_exact([[120.0], [80.0], [70.0], [100.0]], region), region) == 2
    assert decisive_part(judge_exact([[101.0], [93.0], [109.0]], region), region) == 2


def test_of_single_seeds_the_mean_nearest_to_the_edge_or_beyond():
    judgement = judge([(3.0,), (-2.0,), (1.0,)], AT_LEAST_0)
    assert isinstance(judgement, Judgement)
    assert decisive_part(judgement, AT_LEAST_0) == 1
    assert decisive_part(judge([(-3.0,), (2.0,)], Region(upper=0)), Region(upper=0)) == 1
