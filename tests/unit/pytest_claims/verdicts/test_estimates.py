import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from pytest_claims.verdicts.estimates import Estimate, estimate, exact_estimate, projected
from pytest_claims.verdicts.looks import Look

fast = settings(deadline=None, max_examples=40)

samples = st.lists(st.integers(-50, 50), min_size=2, max_size=10).map(lambda xs: [float(x) for x in xs])
varied = samples.filter(lambda xs: min(xs) < max(xs))


@fast
@given(varied, st.sampled_from([0.9, 0.95, 0.99375]))
def test_interval_is_that_of_statsmodels(xs, confidence):
    part = estimate(xs, confidence=confidence)
    expected = DescrStatsW(xs).tconfint_mean(alpha=1 - confidence)
    assert (part.lower, part.upper) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (part.mean, part.sd, part.n) == pytest.approx((np.mean(xs), np.std(xs, ddof=1), len(xs)))
    assert part.confidence == confidence


@given(varied)
def test_a_fixed_number_of_seeds_has_intervals_of_90_percent(xs):
    assert estimate(xs) == estimate(xs, confidence=0.9)


def test_interval_by_hand():
    # t(0.95, 2) = 2.9200 in every printed table; sd = 1, so the half width is 2.9200 / sqrt(3).
    part = estimate([1.0, 2.0, 3.0])
    assert (part.lower, part.upper) == pytest.approx((2 - 1.68585, 2 + 1.68585), abs=1e-4)


def test_one_sample_has_no_interval():
    part = estimate([3.5])
    assert (part.mean, part.sd, part.n, part.lower, part.upper) == (3.5, None, 1, -math.inf, math.inf)


def test_identical_samples_have_a_degenerate_interval_without_rounding():
    part = estimate([0.1] * 3)
    assert (part.mean, part.sd, part.lower, part.upper) == (0.1, 0.0, 0.1, 0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match=r"sample 1 is .*should be a finite number"):
        estimate([1.0, bad])
    with pytest.raises(ValueError, match=r"sample 0 is .*finite"):
        exact_estimate([bad])


def test_an_exact_estimate_reaches_from_the_least_to_the_greatest_for_sure():
    assert exact_estimate([5, 9, 7]) == Estimate(7, None, 3, 5, 9, 1.0)


@given(varied, st.integers(2, 100))
def test_projected_is_the_estimate_of_more_seeds_with_the_same_mean_and_sd(xs, seeds):
    part, look = estimate(xs), Look(seeds, 0.0125)
    more = projected(part, look)
    assert (more.mean, more.sd, more.n, more.confidence) == (part.mean, part.sd, seeds, 0.975)
    half = stats.t.ppf(0.9875, seeds - 1) * part.sd / math.sqrt(seeds)
    assert (more.lower, more.upper) == pytest.approx((part.mean - half, part.mean + half))


def test_one_sample_cannot_be_projected():
    assert projected(estimate([3.5]), Look(10)) == estimate([3.5])


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_covers_the_mean_nine_times_in_ten(n):
    draws = np.random.default_rng(n).normal(7, 2, (4000, n)).tolist()
    covered = np.mean([part.lower <= 7 <= part.upper for part in map(estimate, draws)])
    assert covered == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 4000))


def test_identical_counts_have_the_spread_of_one_step():
    part = estimate([2.0] * 3, step=0.05)
    half = stats.t.ppf(0.95, 2) * 0.05 / math.sqrt(3)
    assert (part.mean, part.sd) == (2.0, 0.05)
    assert (part.lower, part.upper) == (pytest.approx(2 - half), pytest.approx(2 + half))
    differing = [2.0, 2.05, 2.05]
    assert estimate(differing, step=0.05) == estimate(differing)
