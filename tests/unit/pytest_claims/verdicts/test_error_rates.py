"""Error rates, by simulation."""

import math
from collections import Counter

import numpy as np
import pytest
from vectorized_verdicts import FIXED, LOOKS, STEP, counted_draws, simulate

from pytest_claims.verdicts.judging import Case, judge, judge_suite
from pytest_claims.verdicts.looks import Looks
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Verdict

SDS = (0.3, 0.7, 1.5)
"""Points: differences of accuracies vary so much from seed to seed."""

CLAIMS = 10_000
MANY = 1e300
"""Claims in a family in which nothing is refuted."""


def rate(verdict, judgements):
    return Counter(judgement.verdict for judgement in judgements)[verdict] / len(judgements)


def at_most(share, n, sigmas=4):
    return share + sigmas * math.sqrt(share * (1 - share) / n)


# A fixed number of seeds


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


# Looks: an adversary stops as soon as the verdict is the wrong one

everywhere = pytest.mark.parametrize("sd", SDS)
parts_and_looks = pytest.mark.parametrize(
    ("parts", "looks", "allowed"),
    [(parts, looks, allowed) for parts in (1, 3) for looks, allowed in ((LOOKS, 0.05), (FIXED, at_most(0.05, CLAIMS)))],
    ids=["1-looks", "1-fixed", "3-looks", "3-fixed"],
)


def at_some_look(verdicts):
    return verdicts.any(axis=1).mean()


@everywhere
@parts_and_looks
def test_false_reproduced_at_some_look(sd, parts, looks, allowed):
    # The worst case of an intersection-union test: one part on the edge, the others far inside.
    draws = counted_draws(11, CLAIMS, [0.0] + [-50.0] * (parts - 1), sd, looks[-1][0])
    found = simulate(draws, looks, Region(upper=0)).reproduced
    assert at_some_look(found) <= allowed
    assert found[:, 0].mean() == pytest.approx(looks[0][1], abs=at_most(looks[0][1], CLAIMS) - looks[0][1])


@everywhere
@parts_and_looks
def test_false_refuted_at_some_look(sd, parts, looks, allowed):
    draws = counted_draws(12, CLAIMS, [0.0] * parts, sd, looks[-1][0])
    found = simulate(draws, looks, Region(upper=0)).refuted
    assert at_some_look(found) <= allowed
    assert found[:, 0].mean() > 0.8 * looks[0][1]


@everywhere
@parts_and_looks
@pytest.mark.parametrize("side", [-1, 1])
def test_false_practically_equal_at_some_look(sd, parts, looks, allowed, side):
    margin = 10 * sd
    draws = counted_draws(13, CLAIMS, [side * margin] + [0.0] * (parts - 1), sd, looks[-1][0])
    region = Region(lower=0) if side < 0 else Region(upper=0)
    found = simulate(draws, looks, region, margin, family_size=MANY).equal
    assert at_some_look(found) <= allowed
    assert found[:, 0].mean() > 0.8 * looks[0][1]


@everywhere
def test_intervals_cover_at_each_look_and_at_all_together(sd):
    seen = simulate(counted_draws(14, CLAIMS, [0.0], sd, 40), LOOKS, Region(upper=0))
    covers = ((seen.lower <= 0) & (seen.upper >= 0))[:, 0]
    for look, (_, level) in enumerate(LOOKS):
        assert covers[:, look].mean() == pytest.approx(1 - 2 * level, abs=at_most(2 * level, CLAIMS) - 2 * level)
    assert covers.all(axis=1).mean() >= 0.9


def test_judging_every_look_at_five_percent_would_not_keep_the_rate():
    each_at_five = tuple((seeds, 0.05) for seeds, _ in LOOKS)
    draws = counted_draws(11, CLAIMS, [0.0], 0.7, 40)
    assert at_some_look(simulate(draws, each_at_five, Region(upper=0)).reproduced) > 0.12


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_false_refuted_anywhere_in_a_suite_at_any_look(shared):
    suites, claims = 5000, 30
    generator = np.random.default_rng(15)
    common, own = generator.normal(0, 1, (suites, 1, 40)), generator.normal(0, 1, (suites, claims, 40))
    draws = (math.sqrt(shared) * common + math.sqrt(1 - shared) * own).reshape(suites * claims, 1, 40)
    # Holm rejects something where the least p times the family does, whichever look each claim is at.
    refuted = simulate(draws, LOOKS, Region(upper=0), family_size=claims).refuted
    false = refuted.reshape(suites, -1).any(axis=1)
    assert false.mean() <= at_most(0.05, suites)
    for suite in np.flatnonzero(false)[:5]:
        each = range(suite * claims, suite * claims + claims)
        stops = [next((n for n, hit in zip((5, 10, 20, 40), refuted[i], strict=True) if hit), 40) for i in each]
        cases = {str(i): Case([draws[i, 0, :n].tolist()], Region(upper=0)) for i, n in zip(each, stops, strict=True)}
        judged = judge_suite(cases, family_size=claims, looks=Looks(5))
        assert any(judgement.verdict is Verdict.REFUTED for judgement in judged.values())


@everywhere
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("centre", [0.0, -1.0, 1.0, 3.0])
def test_the_simulated_verdicts_are_the_real_ones(sd, parts, centre):
    draws = counted_draws(16, 25, [centre * sd] * parts, sd, 40)
    region = Region(lower=0)
    seen = simulate(draws, LOOKS, region, 1.5 * sd)
    for claim, samples in enumerate(draws.tolist()):
        for look, (verdict, (seeds, _)) in enumerate(zip(seen.verdicts(claim), LOOKS, strict=True)):
            case = Case([part[:seeds] for part in samples], region, STEP, 1.5 * sd)
            judged = judge(case, Looks(5))
            assert judged.verdict is verdict
            assert judged.p_refuted == pytest.approx(seen.p_refuted[claim, look], rel=1e-6)
            ends = [end for part in judged.estimates for end in (part.lower, part.upper)]
            assert ends == pytest.approx(np.stack([seen.lower, seen.upper], axis=2)[claim, ..., look].ravel().tolist())


@pytest.mark.parametrize("standard_deviations", [0.5, 1.0, 2.0])
def test_more_looks_decide_more_claims_and_the_right_way(standard_deviations):
    draws = counted_draws(17, 2000, [-0.7 * standard_deviations], 0.7, 40)
    seen = simulate(draws, LOOKS, Region(upper=0))
    shares = np.logical_or.accumulate(seen.reproduced, axis=1).mean(axis=0)
    assert (np.diff(shares) >= 0).all()
    assert shares[-1] > 0.45
    assert at_some_look(seen.refuted) < 0.01
