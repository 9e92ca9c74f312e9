import math

import pytest
from fake_runs import CLAIMS, VERDICTS, claim, fill, fill_for_claims, measurements, results, suite_without_data
from scipy.stats import ttest_1samp

from pytest_claims.store import Failure
from pytest_claims.suite.judging import judge_claims
from pytest_claims.suite.seed_counts import wanted
from pytest_claims.verdicts.verdict import Verdict


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = suite_without_data(tmp_path_factory.mktemp("store"))
    fill_for_claims(suite)
    return suite


@pytest.fixture
def empty(tmp_path):
    return suite_without_data(tmp_path)


def judge(suite, *claims):
    return judge_claims(results(claims).claims, suite)


def test_every_claim_has_a_finding_in_the_order_of_the_file(suite):
    findings = judge(suite, *CLAIMS)
    assert {id_: found.verdict.value for id_, found in findings.items()} == VERDICTS
    assert list(findings) == [entry["id"] for entry in CLAIMS]
    assert all(found.claim.id == id_ for id_, found in findings.items())


def test_a_comparison_is_paired_by_seed(suite):
    found = judge(suite, *CLAIMS)["q2-refuted"]
    (part,) = found.judgement.estimates
    assert part.mean == pytest.approx((60.0 - 78.0 + 60.2 - 78.1) / 2)
    assert {model: [run.provenance["seed"] for run in runs] for model, runs in found.runs.items()} == {
        "student-distilled-scratch": [0, 1],
        "student-scratch": [0, 1],
    }


def test_refutations_are_corrected_for_all_applicable_claims_on_seeds(suite):
    differences = [60.0 - 78.0, 60.2 - 78.1]
    alone = ttest_1samp(differences, 0, alternative="less").pvalue
    on_seeds = sum(entry["kind"] in ("accuracy", "comparison", "curve") for entry in CLAIMS if "data" not in entry)
    assert on_seeds == 6
    # It is the smallest p of the family, so Holm multiplies it by all of them.
    assert judge(suite, *CLAIMS)["q2-refuted"].judgement.p_refuted == pytest.approx(on_seeds * alone)


def test_a_refutation_is_not_had_by_making_few_runs(suite, empty):
    fill(empty, {"student-scratch": (0, 1), "student-distilled-scratch": (0, 1)})
    few, all_made = judge(empty, *CLAIMS), judge(suite, *CLAIMS)
    assert few["q2-refuted"].judgement == all_made["q2-refuted"].judgement
    assert [id_ for id_, found in few.items() if found.judgement] == ["q2-refuted"]


def test_numbers_of_other_data_are_not_applicable(empty):
    found = judge(empty, claim("q2-a", "accuracy", model="teacher-scratch", at_least=1, data="food-11"))["q2-a"]
    assert (found.verdict, found.judgement, found.runs) == (Verdict.NOT_APPLICABLE, None, {})
    assert found.reason == "food-11 numbers are not judged on fractal data"


EXACT = claim("q1-smaller", "size", measure="macs", pairs=[["teacher-scratch", "student-scratch"]], ratio_at_most=1)
ON_SEEDS = claim("q2-better", "comparison", pairs=[["teacher-scratch", "student-scratch"]], at_least=0)


def test_an_exact_claim_needs_the_first_seed_alone(tmp_path):
    suite = suite_without_data(tmp_path, seeds=(2, 0))
    fill(suite, {"teacher-scratch": (2,), "student-scratch": (2,)})
    findings = judge(suite, EXACT, ON_SEEDS)
    assert findings["q1-smaller"].verdict is Verdict.REPRODUCED
    assert [run.provenance["seed"] for run in findings["q1-smaller"].runs["teacher-scratch"]] == [2]
    assert findings["q2-better"].verdict is None


def wanted_of(entries, seeds=(4, 7)):
    claims = results(entries).claims
    return wanted(claims, {claim.id: seeds for claim in claims})


@pytest.mark.parametrize("claims", [(EXACT, ON_SEEDS), (ON_SEEDS, EXACT)])
def test_a_model_is_wanted_with_all_seeds_that_any_claim_needs(claims):
    assert wanted_of(claims) == {"teacher-scratch": (4, 7), "student-scratch": (4, 7)}


def test_exact_claims_want_the_first_seed():
    assert wanted_of([EXACT]) == {"teacher-scratch": (4,), "student-scratch": (4,)}


def test_one_seed_decides_nothing_that_rests_on_seeds(tmp_path):
    suite = suite_without_data(tmp_path, seeds=(0,))
    fill(suite, {"teacher-scratch": (0,), "student-scratch": (0,)})
    found = judge(suite, ON_SEEDS)["q2-better"]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.judgement.estimates[0].lower == -math.inf


def test_a_missing_run_is_named(empty):
    fill(empty, {"teacher-scratch": (0, 1), "student-scratch": (0,)})
    found = judge(empty, ON_SEEDS)["q2-better"]
    assert (found.verdict, found.reason) == (None, "run student-scratch (seed 1) is not in the store")


def failing(suite, model, seed):
    key = suite.plan({model: (seed,)}).keys[model][0]
    suite.store.record_failure(key, Failure(model, f"{model} (seed {seed}): ValueError: too hot", "Traceback"))


@pytest.mark.parametrize("failed", ["student-distilled-finetuned", "teacher-finetuned"])
def test_a_claim_without_runs_tells_which_failure_keeps_them_from_being_made(empty, failed):
    fill(empty, {"teacher-scratch": (0, 1)})
    failing(empty, failed, 1)
    pairs = [["teacher-scratch", "pruned-0.95-2-bn"]]
    found = judge(empty, claim("q3-a", "comparison", pairs=pairs, at_least=0))["q3-a"]
    assert found.verdict is None
    assert found.reason == f"{failed} (seed 1): ValueError: too hot (--retry-failed makes it again)"


def test_a_failure_that_a_stored_run_has_outlived_is_not_told(empty):
    fill(empty, {"teacher-finetuned": (0, 1)})
    failing(empty, "teacher-finetuned", 0)
    found = judge(empty, claim("q2-a", "accuracy", model="student-distilled-finetuned", at_least=0))
    assert found["q2-a"].reason == "run student-distilled-finetuned (seed 0) is not in the store"


def test_one_failure_leaves_other_claims_alone(empty):
    fill(empty, {"teacher-scratch": (0, 1), "student-scratch": (0, 1)})
    failing(empty, "teacher-finetuned", 0)
    findings = judge(empty, *CLAIMS, ON_SEEDS)
    assert findings["q2-better"].verdict is Verdict.REPRODUCED
    assert findings["q2-reproduced"].verdict is None


def test_a_number_that_a_model_does_not_have_concerns_its_claim_alone(suite):
    odd = claim("q1-odd", "accuracy", model="teacher-finetuned", measure="relative_error", at_most=5)
    findings = judge(suite, *CLAIMS, odd)
    assert findings["q1-odd"].verdict is None
    assert findings["q1-odd"].reason == (
        "teacher-finetuned has no 'relative_error', should be one of accuracy, best_accuracy, bytes, macs, parameters"
    )
    assert findings["q1-precision"].verdict is Verdict.REPRODUCED


def test_a_ratio_to_nothing_concerns_its_claim_alone(empty):
    fill(empty, {"resnet18": (0,), "student": (0,)}, lambda model, seed: {**measurements(model, seed), "macs": 0})
    macs = claim("q2-macs", "size", measure="macs", pairs=[["resnet18", "student"]], ratio_above=1)
    parameters = claim("q2-parameters", "size", measure="parameters", pairs=[["resnet18", "student"]], ratio_above=1)
    findings = judge(empty, macs, parameters)
    assert findings["q2-macs"].verdict is None
    assert "student has 0 macs" in findings["q2-macs"].reason
    assert findings["q2-parameters"].verdict is Verdict.REPRODUCED


def test_a_damaged_run_is_not_judged_on(empty):
    plan = fill(empty, {"teacher-scratch": (0, 1), "student-scratch": (0, 1)})
    folder = empty.store.load(plan.keys["student-scratch"][1]).folder
    (folder / "measurements.json").write_text('{"accuracy": 99.9, "bytes": 1}\n')
    found = judge(empty, ON_SEEDS)["q2-better"]
    assert found.reason == "run student-scratch (seed 1) is not in the store"
    assert len(empty.warnings) == 1
    assert "measurements.json" in empty.warnings[0]


def test_models_that_are_equally_good_are_no_evidence(empty):
    chance = claim("q2-better", "comparison", pairs=[["student-distilled-scratch", "student-scratch"]], above=0)
    guessing = {"accuracy": 9.09, "best_accuracy": 9.09, "parameters": 1000, "macs": 5000}
    fill(empty, {"student-scratch": (0, 1), "student-distilled-scratch": (0, 1)}, lambda model, seed: guessing)
    assert judge(empty, chance)["q2-better"].verdict is Verdict.INCONCLUSIVE


PAIR = [["teacher-finetuned", "teacher-scratch"]]
"""8.0 and 8.1 points apart."""


def control(id_="q2-effect", **operands):
    return claim(id_, "control", **{"pairs": PAIR, **operands})


@pytest.mark.parametrize(
    ("operands", "verdict"),
    [
        ({"at_least": 3.0}, Verdict.REPRODUCED),
        ({"at_least": 20.0}, Verdict.REFUTED),
        ({"at_least": 8.0}, Verdict.INCONCLUSIVE),
        ({"at_most": 0.0, "should_be": "refuted"}, Verdict.REPRODUCED),
        ({"at_least": 3.0, "should_be": "refuted"}, Verdict.REFUTED),
        ({"equals": 0.0, "should_be": "not refuted"}, Verdict.REFUTED),
        ({"equals": 8.0, "should_be": "not refuted"}, Verdict.REPRODUCED),
    ],
)
def test_a_control_holds_where_its_statement_becomes_what_it_should_be(suite, operands, verdict):
    assert judge(suite, control(**operands), ON_SEEDS)["q2-effect"].verdict is verdict


def test_one_seed_shows_no_control(tmp_path):
    suite = suite_without_data(tmp_path, seeds=(0,))
    fill(suite, {"teacher-scratch": (0,), "teacher-finetuned": (0,), "student-scratch": (0,)})
    operands = {"equals": 8.0, "should_be": "not refuted"}
    assert judge(suite, control(**operands), ON_SEEDS)["q2-effect"].verdict is Verdict.INCONCLUSIVE


FAILS = {"at_least": 20.0}


@pytest.mark.parametrize("guards", [{}, {"guards": ["question 2"]}, {"guards": ["q2-better"]}])
def test_what_rests_on_a_control_that_fails_is_measured_and_not_judged(suite, guards):
    found = judge(suite, ON_SEEDS, EXACT, control(**FAILS, **guards))
    assert found["q2-better"].verdict is Verdict.NOT_JUDGED
    assert found["q2-better"].reason == "q2-effect fails: this profile can't tell"
    assert found["q2-better"].judgement.verdict is Verdict.REPRODUCED
    assert found["q1-smaller"].verdict is Verdict.REPRODUCED


def test_other_claims_are_judged_as_without_the_control(suite):
    found = judge(suite, *CLAIMS, control(**FAILS, guards=["question 4"]))
    assert {id_: each.verdict.value for id_, each in found.items() if id_ in VERDICTS} == {
        **VERDICTS,
        "q4-inconclusive": "not judged",
    }
    # Not one of the family that refutations are corrected over.
    assert found["q2-refuted"].judgement == judge(suite, *CLAIMS)["q2-refuted"].judgement


def test_without_its_runs_a_control_is_not_shown(empty):
    fill(empty, {"teacher-scratch": (0, 1), "student-scratch": (0, 1)})
    found = judge(empty, ON_SEEDS, control(at_least=3.0))
    assert found["q2-effect"].verdict is None
    assert found["q2-better"].reason == "q2-effect is not shown to hold: this profile can't tell"
