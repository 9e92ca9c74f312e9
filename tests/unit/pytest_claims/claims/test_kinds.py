import subprocess
import sys

import pytest
from claim_entries import BODIES, claim

from pytest_claims.claims.claim import ClaimsError
from pytest_claims.claims.claims_file import load_claims
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.measure import BUILT_IN, Measure
from pytest_claims.verdicts.judging import Case, judge, judge_exact
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Verdict


def test_importing_claims_loads_nothing_slow():
    slow = "{'torch', 'numpy', 'scipy', 'pandas', 'statsmodels', 'pytest'}"
    code = f"import sys, pytest_claims.claims.expected_results; print(sorted({slow} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", BODIES)
def test_a_claim_of_each_kind_is_frozen(kind):
    frozen = claim(kind)
    with pytest.raises(ValueError, match="frozen"):
        frozen.id = "q1-y"


@pytest.mark.parametrize(
    ("kind", "models", "exact"),
    [
        ("parameters", ("a", "b"), True),
        ("size", ("a", "b"), True),
        ("accuracy", ("a",), False),
        ("comparison", ("a", "b", "c"), False),
        ("curve", ("a", "b", "c"), False),
    ],
)
def test_needs_are_each_model_once_and_the_seeds(kind, models, exact):
    needing = claim(kind)
    assert (needing.needed_models(), needing.exact) == (models, exact)


def test_a_number_published_for_other_data_does_not_apply():
    assert claim("accuracy", data="food-11").applies("food-11")
    assert not claim("accuracy", data="food-11").applies("shapes")
    assert claim("accuracy").applies("shapes")


def lookup_in(**measured):
    def lookup(model, measure):
        return measured[f"{model}_{measure}"]

    return lookup


def test_counts_are_one_part_a_model():
    lookup = lookup_in(a_macs=[7], b_macs=[8])
    assert claim("parameters", measure="macs").quantities(lookup) == ((7,), (8,))


def test_size_is_the_ratio_of_the_first_to_the_second():
    lookup = lookup_in(a_bytes=[400], b_bytes=[100])
    assert claim("size").quantities(lookup) == ((4.0,),)


def test_comparison_is_paired_by_seed():
    lookup = lookup_in(a_accuracy=[80.0, 70.0], b_accuracy=[79.0, 72.5], c_accuracy=[1.0, 2.0])
    assert claim("comparison").quantities(lookup) == ((1.0, -2.5), (-78.0, -70.5))


def test_a_difference_of_decimals_lies_on_the_edge_not_beyond():
    assert 80.2 - 80.1 > 0.1
    drop = claim("comparison", pairs=[["a", "b"]], at_most=0.1)
    parts = drop.quantities(lookup_in(a_accuracy=[80.2, 70.4], b_accuracy=[80.1, 70.3]))
    assert parts == ((0.1, 0.1),)
    assert judge(Case(parts, drop.region())).verdict is Verdict.REPRODUCED


def test_a_falling_curve_is_its_steps():
    lookup = lookup_in(a_accuracy=[80.0, 81.0], b_accuracy=[79.0, 82.0], c_accuracy=[70.0, 70.0])
    assert claim("curve").quantities(lookup) == ((-1.0, 1.0), (-9.0, -12.0))


def test_an_accelerating_curve_is_the_last_cost_less_the_first():
    lookup = lookup_in(
        a_accuracy=[80.0, 81.0], b_accuracy=[79.0, 82.0], c_accuracy=[70.0, 70.0], d_accuracy=[60.0, 65.0]
    )
    curve = claim("curve", shape="accelerating", models=["a", "b", "c", "d"])
    assert curve.quantities(lookup) == ((10.0 - 1.0, 5.0 - -1.0),)


def test_accuracy_is_its_samples():
    assert claim("accuracy", measure="best_accuracy").quantities(lookup_in(a_best_accuracy=[1, 2])) == ((1, 2),)


@pytest.mark.parametrize("kind", ["comparison", "curve", "size"])
def test_models_measured_on_unequal_seeds_are_not_compared(kind):
    measure = "bytes" if kind == "size" else "accuracy"
    lookup = lookup_in(**{f"{model}_{measure}": [1.0] * n for model, n in (("a", 3), ("b", 2), ("c", 3))})
    with pytest.raises(ClaimsError, match=rf"q1-x: b has {measure} of 2 seeds, should have as many as a, 3"):
        claim(kind).quantities(lookup)


def test_a_ratio_by_nothing_is_refused():
    with pytest.raises(ClaimsError, match="q1-x: b has 0 bytes"):
        claim("size").quantities(lookup_in(a_bytes=[4], b_bytes=[0]))


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("parameters", {"equals": 256779}, Region(256779, 256779)),
        ("parameters", {"equals": 11182155}, Region(11182155, 11182155)),
        ("parameters", {"equals": ..., "at_most": 299999}, Region(upper=299999)),
        ("parameters", {"equals": ..., "at_least": 2, "at_most": 4}, Region(2, 4)),
        ("size", {}, Region(lower=3.9)),
        ("size", {"ratio_at_least": 0.95, "ratio_at_most": 1.05}, Region(0.95, 1.05)),
        ("accuracy", {}, Region(87.21, 89.61)),
        ("accuracy", {"published": 79.79, "tolerance": 0.8}, Region(78.99, 80.59)),
        ("accuracy", {"published": ..., "tolerance": ..., "at_least": 99}, Region(lower=99)),
        ("comparison", {}, Region(upper=0.5)),
        ("comparison", {"at_most": ..., "at_least": 0}, Region(lower=0)),
        ("comparison", {"at_least": -0.5}, Region(-0.5, 0.5)),
        ("curve", {}, Region(upper=0.5)),
        ("curve", {"shape": "accelerating", "margin": 0}, Region(lower=0)),
    ],
)
def test_region(kind, changes, expected):
    assert claim(kind, **changes).region() == expected


def test_above_excludes_equality_and_admits_the_smallest_excess():
    larger = claim("size", ratio_at_least=..., ratio_above=1)
    for count, verdict in ((256779, Verdict.REFUTED), (256780, Verdict.REPRODUCED)):
        parts = larger.quantities(lookup_in(a_bytes=[count], b_bytes=[256779]))
        assert judge_exact(parts, larger.region()).verdict is verdict
    better = claim("comparison", at_most=..., above=0, pairs=[["a", "b"]])
    for accuracy, verdict in ((80.0, Verdict.REFUTED), (80.01, Verdict.REPRODUCED)):
        parts = better.quantities(lookup_in(a_accuracy=[accuracy], b_accuracy=[80.0]))
        assert judge_exact(parts, better.region()).verdict is verdict


def test_a_comparison_may_have_a_margin_of_equality_and_no_other_kind_has_one():
    assert claim("comparison", at_most=..., above=0, equal_within=0.5).equality() == 0.5
    assert [claim(kind).equality() for kind in BODIES] == [None] * len(BODIES)


MEASURES = {measure.name: measure for measure in BUILT_IN}
SECONDS, PLAIN = Measure("seconds", "s", decimals=1), Measure("loss", decimals=3)


def expectation(kind, measure=None, **changes):
    given = claim(kind, **changes)
    return given.expectation(measure or MEASURES[given.measure])


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("parameters", {"equals": 256779}, "256,779"),
        ("parameters", {"equals": 11182155}, "11,182,155"),
        ("parameters", {"equals": ..., "at_most": 299999}, "<= 299,999"),
        ("parameters", {"equals": ..., "at_least": 2, "at_most": 4}, "2 to 4"),
        ("size", {}, ">= 3.9 times"),
        ("size", {"ratio_at_least": 0.95, "ratio_at_most": 1.05}, "0.95 to 1.05 times"),
        ("size", {"ratio_at_least": ..., "ratio_above": 1}, "> 1 times"),
        ("accuracy", {}, "88.41 +- 1.2"),
        ("accuracy", {"published": 79.79, "tolerance": 0.8}, "79.79 +- 0.8"),
        ("accuracy", {"published": ..., "tolerance": ..., "at_least": 99}, ">= 99"),
        ("comparison", {}, "<= 0.5 points"),
        ("comparison", {"at_most": ..., "at_least": 0}, ">= 0 points"),
        ("comparison", {"at_most": ..., "above": 0}, "> 0 points"),
        ("comparison", {"at_least": -0.5}, "-0.5 to 0.5 points"),
        ("curve", {}, "each step <= 0.5 points"),
        ("curve", {"shape": "accelerating", "margin": 0}, "the last step costs >= 0 points more than the first"),
    ],
)
def test_what_is_expected_is_told_in_the_unit_of_the_kind(kind, changes, expected):
    assert expectation(kind, **changes) == expected


@pytest.mark.parametrize(
    ("kind", "of_seconds", "of_a_plain_number"),
    [
        ("size", ">= 3.9 times", ">= 3.9 times"),
        ("accuracy", "88.41 +- 1.2 s", "88.41 +- 1.2"),
        ("comparison", "<= 0.5 s", "<= 0.5"),
        ("curve", "each step <= 0.5 s", "each step <= 0.5"),
    ],
)
def test_units_are_the_measures(kind, of_seconds, of_a_plain_number):
    assert expectation(kind, SECONDS) == of_seconds
    assert expectation(kind, PLAIN) == of_a_plain_number
    for measure, told in ((SECONDS, of_seconds), (PLAIN, of_a_plain_number)):
        assert told.endswith(claim(kind).unit(measure))


@pytest.mark.parametrize("kind", sorted(BODIES.keys() - {"size"}))
def test_decimals_are_the_measures(kind):
    assert [claim(kind).decimals(12.3456, measure) for measure in (SECONDS, PLAIN)] == [1, 3]


@pytest.mark.parametrize(("ratio", "decimals"), [(43.547, 1), (3.99, 2), (0.99234, 3), (1234.5, 0), (0.0, 0)])
def test_ratios_have_three_digits_whatever_the_measure(ratio, decimals):
    assert claim("size").decimals(ratio, SECONDS) == decimals


@pytest.mark.parametrize(
    ("kind", "changes", "names"),
    [
        ("parameters", {}, ("a", "b")),
        ("size", {}, ("a / b",)),
        ("accuracy", {}, ("a",)),
        ("comparison", {}, ("a - b", "c - b")),
        ("curve", {}, ("b - a", "c - b")),
        ("curve", {"shape": "accelerating"}, ("(b - a) - (c - b)",)),
    ],
)
def test_parts_are_named_in_the_order_of_the_quantities(kind, changes, names):
    assert claim(kind, **changes).part_names() == names


def test_every_claim_has_a_name_for_each_part_and_says_what_it_expects():
    for one in load_claims(ROOT / "expected_results.json").claims:
        parts = one.quantities(lambda model, _: [50.0 + len(model), 51.0])
        assert len(one.part_names()) == len(parts)
        assert one.expectation(MEASURES.get(one.measure, PLAIN))
