import gc
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from pytest_claims.basics.limits import MOST_SEEDS
from pytest_claims.verdicts.estimates import estimate
from pytest_claims.verdicts.judging import Case, judge, judge_exact, judge_suite
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Verdict


@pytest.fixture(autouse=True)
def _quick_garbage_collection():
    # statsmodels' Holm collects garbage at every call, 50 ms with all of this process's objects to look at.
    gc.freeze()
    yield
    gc.unfreeze()


fast = settings(deadline=None, max_examples=40)

samples = st.lists(st.integers(-50, 50), min_size=2, max_size=10).map(lambda xs: [float(x) for x in xs])
varied = samples.filter(lambda xs: min(xs) < max(xs))


@st.composite
def regions(draw):
    low, high = sorted(draw(st.tuples(st.integers(-60, 60), st.integers(-60, 60))))
    return draw(st.sampled_from([Region(low, high), Region(lower=low), Region(upper=high)]))


def exact_samples(mean, sd, n):
    scores = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return (mean + sd * (scores - scores.mean()) / scores.std(ddof=1)).tolist()


def rate(verdict, judgements):
    return Counter(judgement.verdict for judgement in judgements)[verdict] / len(judgements)


def at_most(share, n, sigmas=4):
    return share + sigmas * math.sqrt(share * (1 - share) / n)


# The interval


@fast
@given(varied)
def test_interval_is_that_of_statsmodels(xs):
    part = estimate(xs)
    assert (part.lower, part.upper) == pytest.approx(DescrStatsW(xs).tconfint_mean(alpha=0.1), abs=1e-9)
    assert (part.mean, part.sd, part.n) == pytest.approx((np.mean(xs), np.std(xs, ddof=1), len(xs)))


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
    with pytest.raises(ValueError, match=r"q1-x: sample 0"):
        judge_suite({"q1-x": Case([[bad]], Region(0, 1))}, 1)
    with pytest.raises(ValueError, match="finite"):
        judge_exact([[bad]], Region(0, 1))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_covers_the_mean_nine_times_in_ten(n):
    draws = np.random.default_rng(n).normal(7, 2, (4000, n)).tolist()
    covered = np.mean([part.lower <= 7 <= part.upper for part in map(estimate, draws)])
    assert covered == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / 4000))


# The region


@pytest.mark.parametrize("edges", [(2, 1), (math.nan, 1), (0, math.nan), (-math.inf, math.inf), (math.inf, math.inf)])
def test_a_region_without_sense_is_refused(edges):
    with pytest.raises(ValueError, match="region"):
        Region(*edges)


def test_edges_belong_to_the_region():
    for judged in (judge(Case([[1.0, 1.0, 1.0]], Region(1, 2))), judge_exact([[2.0]], Region(1, 2))):
        assert judged.verdict is Verdict.REPRODUCED


# One claim


@fast
@given(varied, regions())
def test_a_part_is_judged_by_its_interval(xs, region):
    low, high = DescrStatsW(xs).tconfint_mean(alpha=0.1)
    edges = [edge for edge in (region.lower, region.upper) if math.isfinite(edge)]
    assume(all(abs(end - edge) > 1e-6 for end in (low, high) for edge in edges))
    verdict = judge(Case([xs], region)).verdict
    assert (verdict is Verdict.REPRODUCED) == (region.lower < low and high < region.upper)
    assert (verdict is Verdict.REFUTED) == (high < region.lower or low > region.upper)


@fast
@given(varied, st.integers(-60, 60), st.integers(1, 40))
def test_reproduced_between_two_edges_is_tost(xs, low, width):
    p_value = DescrStatsW(xs).ttost_mean(low, low + width)[0]
    assume(abs(p_value - 0.05) > 1e-9)
    assert (judge(Case([xs], Region(low, low + width))).verdict is Verdict.REPRODUCED) == (p_value < 0.05)


@fast
@given(varied, st.integers(-60, 60))
def test_p_refuted_is_that_of_the_one_sided_t_test(xs, edge):
    mean = np.mean(xs)
    above = stats.ttest_1samp(xs, edge, alternative="greater").pvalue if mean > edge else 1.0
    below = stats.ttest_1samp(xs, edge, alternative="less").pvalue if mean < edge else 1.0
    assert judge(Case([xs], Region(upper=edge))).p_refuted == pytest.approx(above, rel=1e-6)
    assert judge(Case([xs], Region(lower=edge))).p_refuted == pytest.approx(below, rel=1e-6)


@fast
@given(st.lists(varied, min_size=1, max_size=5), regions())
def test_several_parts_must_all_hold_and_pay_bonferroni_to_be_refuted(parts, region):
    alone = [judge(Case([xs], region)) for xs in parts]
    together = judge(Case(parts, region))
    everyone = all(each.verdict is Verdict.REPRODUCED for each in alone)
    smallest = min(each.p_refuted for each in alone)
    assert (together.verdict is Verdict.REPRODUCED) == everyone
    assert together.p_refuted == pytest.approx(min(1.0, len(parts) * smallest))
    assert (together.verdict is Verdict.REFUTED) == (len(parts) * smallest <= 0.05)
    assert together.estimates == tuple(map(estimate, parts))


@fast
@given(varied, regions(), st.integers(-1000, 1000), st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_verdict_moves_with_the_origin_and_the_unit(xs, region, shift, scale):
    before = judge(Case([xs], region))
    moved = Region(scale * (region.lower + shift), scale * (region.upper + shift))
    after = judge(Case([[scale * (x + shift) for x in xs]], moved))
    assert (after.verdict, after.seeds_needed) == (before.verdict, before.seeds_needed)
    assert after.p_refuted == pytest.approx(before.p_refuted, rel=1e-6)


@fast
@given(varied, regions())
def test_verdict_is_the_same_in_the_mirror(xs, region):
    mirrored = judge(Case([[-x for x in xs]], Region(-region.upper, -region.lower)))
    assert mirrored.verdict is judge(Case([xs], region)).verdict


@fast
@given(varied, regions(), st.integers(0, 30), st.integers(0, 30))
def test_a_wider_region_is_no_harder_to_reproduce_and_no_easier_to_refute(xs, region, left, right):
    narrow, wide = judge(Case([xs], region)), judge(Case([xs], Region(region.lower - left, region.upper + right)))
    if narrow.verdict is Verdict.REPRODUCED:
        assert wide.verdict is Verdict.REPRODUCED
    assert wide.p_refuted >= narrow.p_refuted


def test_one_seed_is_always_inconclusive():
    for value in (-1e9, 0.5, 1e9):
        judged = judge(Case([[value]], Region(0, 1)))
        assert (judged.verdict, judged.p_refuted, judged.seeds_needed) == (Verdict.INCONCLUSIVE, 1.0, None)


def test_one_part_of_one_seed_keeps_the_claim_from_being_reproduced():
    assert judge(Case([[1.0, 1.0], [1.0]], Region(0, 2))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("value", "verdict"), [(0.5, Verdict.REPRODUCED), (1.5, Verdict.REFUTED)])
@pytest.mark.parametrize("step", [0.0, 0.05])
def test_identical_samples_decide(value, verdict, step):
    assert judge(Case([[value] * 3], Region(0, 1), step)).verdict is verdict


@pytest.mark.parametrize("edge", [0.0, math.nextafter(0, 1)])
@pytest.mark.parametrize("value", [0.0, 0.05, -0.05])
def test_a_tie_of_counts_or_a_single_count_beside_the_edge_decides_nothing(edge, value):
    assert judge(Case([[value] * 2], Region(lower=edge), step=0.05)).verdict is Verdict.INCONCLUSIVE


def test_identical_counts_have_the_spread_of_one_step():
    part = estimate([2.0] * 3, step=0.05)
    half = stats.t.ppf(0.95, 2) * 0.05 / math.sqrt(3)
    assert (part.mean, part.sd) == (2.0, 0.05)
    assert (part.lower, part.upper) == (pytest.approx(2 - half), pytest.approx(2 + half))
    differing = [2.0, 2.05, 2.05]
    assert estimate(differing, step=0.05) == estimate(differing)


def test_a_claim_without_parts_is_refused():
    for attempt in (lambda: judge(Case([], Region(0, 1))), lambda: judge_exact([], Region(0, 1))):
        with pytest.raises(ValueError, match="at least one part"):
            attempt()
    with pytest.raises(ValueError, match="at least one sample"):
        judge(Case([[]], Region(0, 1)))


# Exact claims


def test_exact_values_hold_or_not():
    assert judge_exact([[5.0], [7.0]], Region(5, 7)).verdict is Verdict.REPRODUCED
    failed = judge_exact([[5.0], [8.0]], Region(5, 7))
    assert (failed.verdict, failed.p_refuted, failed.seeds_needed) == (Verdict.REFUTED, 0.0, None)
    assert [part.mean for part in failed.estimates] == [5.0, 8.0]


def test_an_exact_count_that_differs_between_seeds_must_hold_for_each():
    judged = judge_exact([[5, 6, 9]], Region(5, 7))
    assert judged.verdict is Verdict.REFUTED
    assert (judged.estimates[0].lower, judged.estimates[0].upper) == (5, 9)


# Seeds needed


@fast
@given(st.floats(-3, 3), st.floats(0.1, 3), st.integers(2, 6), st.sampled_from([Region(-1, 1), Region(lower=0.25)]))
def test_seeds_needed_decide_and_one_fewer_do_not(mean, sd, n, region):
    needed = judge(Case([exact_samples(mean, sd, n)], region)).seeds_needed
    assume(needed is not None)
    assert needed > n
    assert judge(Case([exact_samples(mean, sd, needed)], region)).verdict is not Verdict.INCONCLUSIVE
    if needed > 2:
        assert judge(Case([exact_samples(mean, sd, needed - 1)], region)).verdict is Verdict.INCONCLUSIVE


def test_seeds_needed_count_the_suite_and_the_parts():
    region, decided = Region(upper=0), exact_samples(9, 0.1, 5)
    suite = {"refuted": Case([decided], region), "open": Case([exact_samples(0.4, 1, 5), [0.0, 0.0]], region)}
    judged = judge_suite(suite, family_size=12)
    assert judged["refuted"].verdict is Verdict.REFUTED
    needed = judged["open"].seeds_needed

    def verdict(n):
        parts = [exact_samples(0.4, 1, n), [0.0] * n]
        return judge_suite({**suite, "open": Case(parts, region)}, family_size=12)["open"].verdict

    assert (verdict(needed - 1), verdict(needed)) == (Verdict.INCONCLUSIVE, Verdict.REFUTED)
    alone = judge(Case([exact_samples(0.4, 1, 5)], region))
    assert alone.seeds_needed < needed


def test_no_number_of_seeds_is_proposed_beyond_the_cap():
    assert judge(Case([exact_samples(0.01, 1, 5)], Region(upper=0))).seeds_needed is None
    edge = judge(Case([exact_samples(0.06, 1, 5)], Region(upper=0))).seeds_needed
    assert 700 < edge <= MOST_SEEDS


# The suite


@fast
@given(st.lists(varied, min_size=1, max_size=8), st.integers(0, 5))
def test_suite_is_holm_over_the_family(quantities, unjudged):
    region = Region(upper=0)
    suite = {f"q1-{index}": Case([xs], region) for index, xs in enumerate(quantities)}
    judged = judge_suite(suite, family_size=len(suite) + unjudged)
    alone = [judge(Case([xs], region)).p_refuted for xs in quantities]
    # Holm (1979) by hand: the i-th smallest p times (m - i), made monotone.
    order, worst, expected = np.argsort(alone, kind="stable"), 0.0, {}
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, alone[index] * (len(alone) + unjudged - rank)))
        expected[f"q1-{index}"] = worst
    assert {name: j.p_refuted for name, j in judged.items()} == pytest.approx(expected)
    assert list(judged) == list(suite)
    rejected = multipletests(alone + [1.0] * unjudged, alpha=0.05, method="holm")[0][: len(alone)]
    assert [j.verdict is Verdict.REFUTED for j in judged.values()] == rejected.tolist()


def test_an_interval_outside_is_not_refuted_when_the_family_is_large():
    suite = {"q1-x": Case([exact_samples(1.2, 1, 5)], Region(upper=0))}
    assert judge_suite(suite, family_size=1)["q1-x"].verdict is Verdict.REFUTED
    judged = judge_suite(suite, family_size=30)["q1-x"]
    assert judged.estimates[0].lower > 0
    assert judged.verdict is Verdict.INCONCLUSIVE


def test_a_family_smaller_than_the_suite_is_refused():
    suite = {"a": Case([[1.0, 2.0]], Region(0, 1)), "b": Case([[1.0, 2.0]], Region(0, 1))}
    with pytest.raises(ValueError, match="family_size is 1, should be at least the 2"):
        judge_suite(suite, family_size=1)


def test_an_empty_suite_has_no_judgements():
    assert judge_suite({}, family_size=3) == {}


# Error rates, by simulation


def test_false_reproduced_at_an_edge_is_at_most_five_percent():
    draws = np.random.default_rng(0).normal(0, 1, (4000, 5)).tolist()
    found = rate(Verdict.REPRODUCED, [judge(Case([xs], Region(upper=0))) for xs in draws])
    assert found == pytest.approx(0.05, abs=at_most(0.05, 4000) - 0.05)


@pytest.mark.parametrize("others", [0.0, -9.0])
def test_false_reproduced_of_several_parts_is_at_most_five_percent(others):
    # The worst case of an intersection-union test: one part on the edge, the others far inside.
    centres = np.array([0.0, others, others])[:, None]
    draws = np.random.default_rng(1).normal(centres, 1, (3000, 3, 5)).tolist()
    found = rate(Verdict.REPRODUCED, [judge(Case(parts, Region(upper=0))) for parts in draws])
    assert found <= at_most(0.05, 3000)


@pytest.mark.parametrize(("width", "limit"), [(3.0, 0.05), (0.0, 0.10)])
def test_false_refuted_of_a_narrow_region_is_as_documented(width, limit):
    draws = np.random.default_rng(2).normal(0, math.sqrt(5), (4000, 5)).tolist()
    found = rate(Verdict.REFUTED, [judge(Case([xs], Region(-width, 0))) for xs in draws])
    assert found == pytest.approx(limit, abs=at_most(limit, 4000) - limit)


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_false_refuted_anywhere_in_a_suite_is_at_most_five_percent(shared):
    suites, claims, seeds = 400, 30, 5
    generator = np.random.default_rng(3)
    common = generator.normal(0, 1, (suites, 1, 1, seeds))
    own = generator.normal(0, 1, (suites, claims, 2, seeds))
    draws = (math.sqrt(shared) * common + math.sqrt(1 - shared) * own).tolist()
    false = 0
    for drawn in draws:
        suite = {str(index): Case(parts, Region(upper=0)) for index, parts in enumerate(drawn)}
        judged = judge_suite(suite, family_size=claims)
        false += any(judgement.verdict is Verdict.REFUTED for judgement in judged.values())
    assert false / suites <= at_most(0.05, suites)


def test_a_clear_effect_is_found():
    generator = np.random.default_rng(4)
    draws = generator.normal(-2.5, 1, (500, 5)).tolist()
    assert rate(Verdict.REPRODUCED, [judge(Case([xs], Region(upper=0))) for xs in draws]) > 0.95
    draws = generator.normal(2.5, 1, (500, 5)).tolist()
    assert rate(Verdict.REFUTED, [judge(Case([xs], Region(upper=0))) for xs in draws]) > 0.95


def test_power_is_that_of_the_one_sided_t_test():
    from statsmodels.stats.power import TTestPower

    expected = TTestPower().power(effect_size=1.0, nobs=5, alpha=0.05, alternative="larger")
    draws = np.random.default_rng(5).normal(1, 1, (4000, 5)).tolist()
    found = rate(Verdict.REFUTED, [judge(Case([xs], Region(upper=0))) for xs in draws])
    assert found == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))
