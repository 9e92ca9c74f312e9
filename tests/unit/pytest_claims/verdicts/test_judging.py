import math

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
from pytest_claims.verdicts.looks import Looks
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Verdict

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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_is_refused_with_its_claim(bad):
    with pytest.raises(ValueError, match=r"q1-x: sample 0"):
        judge_suite({"q1-x": Case([[bad]], Region(0, 1))}, 1)
    with pytest.raises(ValueError, match=r"q1-x: sample 2"):
        judge_suite({"q1-x": Case([[1.0, 2.0, bad]], Region(0, 1))}, 1, Looks(2))
    with pytest.raises(ValueError, match="finite"):
        judge_exact([[bad]], Region(0, 1))


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


# Practically equal


def beside_others(case, looks=None):
    """In a suite so large that nothing is refuted."""
    return judge_suite({"x": case}, family_size=10**300, looks=looks)["x"]


@pytest.mark.parametrize(
    ("xs", "margin", "verdict"),
    [
        ([0.1, 0.2, 0.15], 0.5, Verdict.REPRODUCED),
        ([-0.1, -0.2, -0.15], 0.5, Verdict.REFUTED),
        ([-0.1, 0.2, 0.05], 0.5, Verdict.EQUAL),
        ([-0.1, 0.2, 0.05], 0.1, Verdict.INCONCLUSIVE),
        ([-0.1, 0.2, 0.05], None, Verdict.INCONCLUSIVE),
        ([-0.1, 0.9, 0.05], 0.5, Verdict.INCONCLUSIVE),
        ([0.05], 0.5, Verdict.INCONCLUSIVE),
    ],
)
def test_equality_is_asked_after_reproduced_and_refuted(xs, margin, verdict):
    assert judge(Case([xs], Region(lower=math.nextafter(0, 1)), equality=margin)).verdict is verdict


def test_a_small_difference_on_the_wrong_side_is_equality_where_correction_takes_its_refutation_back():
    small = Case([[-0.1, -0.2, -0.15]], Region(lower=0), equality=0.5)
    assert judge(small).verdict is Verdict.REFUTED
    judged = beside_others(small)
    assert judged.verdict is Verdict.EQUAL
    assert judged.seeds_needed is None


@fast
@given(varied, st.integers(1, 60))
def test_equality_is_tost(xs, margin):
    p_value = DescrStatsW(xs).ttost_mean(-margin, margin)[0]
    assume(abs(p_value - 0.05) > 1e-9)
    judged = beside_others(Case([xs], Region(lower=1000), equality=margin))
    assert (judged.verdict is Verdict.EQUAL) == (p_value < 0.05)


@fast
@given(st.lists(varied, min_size=1, max_size=4), st.integers(1, 60))
def test_all_parts_must_be_equal(parts, margin):
    def verdict(parts):
        return beside_others(Case(parts, Region(lower=1000), equality=margin)).verdict

    assert (verdict(parts) is Verdict.EQUAL) == all(verdict([xs]) is Verdict.EQUAL for xs in parts)


def test_seeds_needed_count_equality_as_a_decision():
    region = Region(lower=0.01)
    needed = judge(Case([exact_samples(0, 1, 5)], region, equality=0.5)).seeds_needed

    def verdict(n):
        return judge(Case([exact_samples(0, 1, n)], region, equality=0.5)).verdict

    assert (verdict(needed - 1), verdict(needed)) == (Verdict.INCONCLUSIVE, Verdict.EQUAL)
    assert judge(Case([exact_samples(0, 1, 5)], region)).seeds_needed is None


# Looks

many = st.lists(st.integers(-50, 50), min_size=2, max_size=45).map(lambda xs: [float(x) for x in xs])


@fast
@given(many.filter(lambda xs: len(set(xs[:2])) == 2), st.integers(2, 6), regions())
def test_a_look_is_judged_on_its_first_samples_at_its_level(xs, first, region):
    judged = judge(Case([xs], region), Looks(first))
    (part,) = judged.estimates
    if len(xs) < first:
        assert (judged.verdict, judged.p_refuted) == (Verdict.INCONCLUSIVE, 1.0)
        assert part == estimate(xs, confidence=0.95)
        return
    doublings = max(k for k in range(10) if first * 2**k <= len(xs))
    level = 0.05 / 2 ** (doublings + 1)
    seen = xs[: first * 2**doublings]
    assert part == estimate(seen, confidence=1 - 2 * level)
    less, greater = (stats.ttest_1samp(seen, edge, alternative=side).pvalue for edge, side in sides(region, seen))
    assert judged.p_refuted == pytest.approx(min(1.0, min(less, greater) * 2 ** (doublings + 1)), rel=1e-6)
    assert (judged.verdict is Verdict.REPRODUCED) == region.contains(part.lower, part.upper)
    assert (judged.verdict is Verdict.REFUTED) == (min(less, greater) <= level)


def sides(region, xs):
    """Each edge with the side of it that is outside; where the mean is not, an edge that gives p = 1."""
    mean = np.mean(xs)
    return (
        (region.lower if mean < region.lower else -1e9, "less"),
        (region.upper if mean > region.upper else 1e9, "greater"),
    )


@given(many, st.integers(2, 6), st.lists(st.floats(-1e6, 1e6), max_size=4))
def test_seeds_between_looks_change_nothing(xs, first, more):
    looks, region = Looks(first), Region(-5, 5)
    look = looks.reached(len(xs))
    assume(look is not None)
    extra = more[: 2 * look.seeds - len(xs) - 1] if len(xs) < 2 * look.seeds - 1 else []
    before = judge(Case([xs[: look.seeds]], region, equality=9), looks)
    assert judge(Case([xs + extra], region, equality=9), looks) == before


def test_parts_are_judged_at_the_look_that_all_have_reached():
    parts = [[0.1, 0.2, 0.15, 0.12], [0.1, 0.2, 0.3]]
    judged = judge(Case(parts, Region(upper=9)), Looks(2))
    assert [(part.n, part.confidence) for part in judged.estimates] == [(2, 0.95)] * 2


def test_before_the_first_look_nothing_is_decided():
    for xs in ([1.0], [1.0, 1.1, 0.9, 1.0]):
        for region in (Region(lower=0), Region(upper=-100)):
            judged = judge(Case([xs], region, equality=1000), Looks(5))
            assert (judged.verdict, judged.p_refuted) == (Verdict.INCONCLUSIVE, 1.0)
    assert judge(Case([[1.0, 1.1, 0.9, 1.0]], Region(lower=0)), Looks(5)).seeds_needed == 5
    assert judge(Case([[1.0]], Region(lower=0)), Looks(5)).seeds_needed is None


@fast
@given(st.floats(-3, 3), st.floats(0.1, 3), st.integers(2, 12), regions(), st.sampled_from([None, 1.0]))
def test_seeds_needed_are_the_first_later_look_that_decides(mean, sd, n, region, margin):
    looks = Looks(5)

    def judged(seeds):
        return judge(Case([exact_samples(mean, sd, seeds)], region, equality=margin), looks)

    assume(judged(n).verdict is Verdict.INCONCLUSIVE)
    shown = judged(n).estimates[0].n
    assume(abs(judged(n).estimates[0].mean - mean) < 1e-9 and shown == n)
    deciding = [look for look in (5, 10, 20, 40, 80, 160, 320, 640) if look > n and decided(judged(look))]
    assert judged(n).seeds_needed == (deciding[0] if deciding else None)


def decided(judgement):
    return judgement.verdict is not Verdict.INCONCLUSIVE


def test_holm_takes_the_p_values_of_looks():
    region, looks = Region(upper=0), Looks(5)
    suite = {"a": Case([exact_samples(3, 1, 5)], region), "b": Case([exact_samples(1.5, 1, 10)], region)}
    judged = judge_suite(suite, 4, looks)
    raw = {name: stats.ttest_1samp(case.parts[0], 0, alternative="greater").pvalue for name, case in suite.items()}
    p_values = [2 * raw["a"], 4 * raw["b"], 1, 1]
    expected = multipletests(p_values, alpha=0.05, method="holm")[1]
    assert [each.p_refuted for each in judged.values()] == pytest.approx(expected[:2])
