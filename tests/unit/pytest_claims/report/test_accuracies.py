import pytest
from scipy import stats

from pytest_claims.report.accuracies import measured_models


def test_models_have_mean_interval_and_size(make_run):
    runs = [make_run("teacher-finetuned-8bit", number) for number in range(4)]
    model = measured_models({"teacher-finetuned-8bit": runs})["teacher-finetuned-8bit"]
    accuracies = [run.measurements["accuracy"] for run in runs]
    lower, upper = stats.t.interval(0.9, 3, loc=model.estimate.mean, scale=stats.sem(accuracies))
    assert model.accuracies == tuple(accuracies)
    assert (model.parameters, model.size) == (11_182_155, 11_184_155)
    below, above = model.errors
    assert model.estimate.mean - below[0] == pytest.approx(lower)
    assert model.estimate.mean + above[0] == pytest.approx(upper)


def test_one_seed_has_no_error_bar(make_run):
    model = measured_models({"student-scratch": [make_run("student-scratch", 0)]})["student-scratch"]
    assert model.errors == ((0.0,), (0.0,))


def test_untrained_models_are_left_out(make_run):
    assert measured_models({"resnet18": [make_run("resnet18", 0)], "none": []}) == {}
