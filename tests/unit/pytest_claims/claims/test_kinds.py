import subprocess
import sys

import pytest
from claim_entries import BODIES, claim

from pytest_claims.claims.claim import ClaimsError
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.verdicts.verdicts import Region, Verdict, judge, judge_exact


def test_importing_claims_loads_nothing_slow():
    slow = "{'torch', 'numpy', 'scipy', 'pandas', 'statsmodels', 'pytest'}"
    code = f"import sys, pytest_claims.claims.kinds; print(sorted({slow} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", BODIES)
def test_a_claim_of_each_kind_is_frozen(kind):
    frozen = claim(kind)
    with pytest.raises(ValueError, match="frozen"):
        frozen.id = "q1-y"


@pytest.mark.parametrize(
    ("kind", "models", "every_seed"),
    [
        ("parameters", ("a", "b"), False),
        ("size", ("a", "b"), False),
        ("accuracy", ("a",), True),
        ("comparison", ("a", "b", "c"), True),
        ("curve", ("a", "b", "c"), True),
    ],
)
def test_needs_are_each_model_once_and_the_seeds(kind, models, every_seed):
    needed = needs(claim(kind))
    assert (needed.models, needed.every_seed) == (models, every_seed)


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
    assert judge(parts, drop.region()).verdict is Verdict.REPRODUCED


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
