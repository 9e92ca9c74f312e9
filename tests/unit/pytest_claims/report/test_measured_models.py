import pytest
from our_project import make_finding

from pytest_claims.report.measured_models import measure_names, runs_by_model, seed
from pytest_claims.verdicts.verdict import Verdict


def test_runs_are_each_once_in_seed_order_whichever_claims_need_them(claims, make_run):
    first, second, third = (make_run("student", number) for number in (0, 1, 2))
    models = runs_by_model(
        {
            "a": make_finding(claims[0], Verdict.REPRODUCED, None, {"student": [first]}),
            "b": make_finding(claims[1], Verdict.REPRODUCED, None, {"student": [third, first, second]}),
            "c": make_finding(claims[2], Verdict.REPRODUCED, None, {"backbone": [first, first]}),
        }
    )
    assert models == {"student": [first, second, third], "backbone": [first]}


def test_measures_have_size_and_accuracy_first(make_run):
    runs = [make_run("student-scratch", 0), make_run("teacher-finetuned-8bit", 0), make_run("resnet18", 0)]
    assert measure_names(runs) == [
        *("parameters", "macs", "bytes", "accuracy", "best_accuracy"),
        *("relative_error", "size_error_correlation", "small_weight_share"),
    ]
    assert measure_names(runs[2:]) == ["parameters", "macs", "bytes"]


def test_a_run_without_a_seed_is_named(make_run):
    run = make_run("student", 0)
    broken = type(run)(run.key, run.folder, run.measurements, {"seed": "0"})
    with pytest.raises(ValueError, match=rf"run {run.key[:12]}: seed is '0'.*should be an integer"):
        seed(broken)
