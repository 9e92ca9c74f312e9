import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pytest_claims.verdicts.estimates import estimate
from pytest_claims.verdicts.refutation import holm, p_refuted
from pytest_claims.verdicts.region import Region

samples = st.lists(st.integers(-50, 50), min_size=2, max_size=8).map(lambda xs: [float(x) for x in xs])
varied = samples.filter(lambda xs: min(xs) < max(xs))


@settings(deadline=None, max_examples=40)
@given(st.lists(varied, min_size=1, max_size=4), st.integers(0, 9))
def test_p_is_the_least_of_the_parts_times_their_number_times_what_the_look_lacks_of_the_rate(parts, halvings):
    tested = [stats.ttest_1samp(xs, 0, alternative="greater") for xs in parts]
    # Where the mean is allowed there is nothing to refute.
    least = min(float(test.pvalue) if test.statistic > 0 else 1.0 for test in tested)
    found = p_refuted([estimate(xs) for xs in parts], Region(upper=0), 0.05 / 2**halvings)
    assert found == pytest.approx(min(1, len(parts) * 2**halvings * least), rel=1e-6)


def test_without_spread_a_part_outside_is_refuted_for_sure_and_one_inside_is_not():
    assert p_refuted([estimate([1.0, 1.0])], Region(upper=0), 0.05) == 0
    assert p_refuted([estimate([-1.0, -1.0])], Region(upper=0), 0.05) == 1
    assert p_refuted([estimate([1.0])], Region(upper=0), 0.05) == 1


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=8), st.integers(0, 5))
def test_holm_is_that_of_statsmodels_with_p_of_1_for_the_unjudged(p_values, unjudged):
    rejected, corrected = holm(p_values, len(p_values) + unjudged)
    expected = multipletests(p_values + [1.0] * unjudged, alpha=0.05, method="holm")
    assert corrected == pytest.approx(expected[1][: len(p_values)].tolist())
    assert rejected == [p <= 0.05 for p in corrected]
