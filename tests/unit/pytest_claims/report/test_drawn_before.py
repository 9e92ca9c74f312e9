from dataclasses import replace

import pytest

from pytest_claims.report import drawn_before
from pytest_claims.report.accuracies import measured_models
from pytest_claims.report.drawn_before import RECORD, drawing_inputs, is_drawn, record_drawn

NAMES = ("a.png", "b.png")


@pytest.fixture(scope="module")
def models(make_run):
    return measured_models({name: [make_run(name, seed) for seed in range(3)] for name in ("student-scratch",)})


def test_inputs_are_the_numbers_the_words_the_code_and_the_library(models, monkeypatch, tmp_path):
    (tmp_path / "experiments/report").mkdir(parents=True)
    monkeypatch.setattr(drawn_before, "ROOT", tmp_path)
    (model,) = models.values()
    inputs = [
        drawing_inputs(models, "subtitle"),
        drawing_inputs(models, "another"),
        drawing_inputs({}, "subtitle"),
        drawing_inputs({"student-scratch": replace(model, size=model.size + 1)}, "subtitle"),
        drawing_inputs({"student-scratch": replace(model, accuracies=model.accuracies[::-1])}, "subtitle"),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(drawn_before, "version", lambda name: {"matplotlib": "0.1"}[name])
        inputs.append(drawing_inputs(models, "subtitle"))
    assert drawing_inputs(dict(models), "subtitle") == inputs[0]
    for text in ("color = 'red'", "color = 'blue'"):
        (tmp_path / "experiments/report/plots.py").write_text(text)
        inputs.append(drawing_inputs(models, "subtitle"))
    assert len(set(inputs)) == len(inputs)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    record_drawn(tmp_path, NAMES, "inputs")
    return tmp_path


def test_what_was_recorded_is_drawn(folder):
    assert is_drawn(folder, NAMES, "inputs")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.png").write_bytes(b"b"),
        lambda folder: (folder / "a.png").unlink(),
        lambda folder: (folder / "b.png").write_bytes(b""),
        lambda folder: (folder / RECORD).unlink(),
        lambda folder: (folder / RECORD).write_text("{"),
        lambda folder: (folder / RECORD).write_text("[]"),
        lambda folder: (folder / RECORD).write_bytes(b"\xff"),
    ],
)
def test_what_is_not_as_recorded_is_not_drawn(folder, change):
    change(folder)
    assert not is_drawn(folder, NAMES, "inputs")


def test_other_inputs_and_other_plots_are_not_drawn(folder):
    assert not is_drawn(folder, NAMES, "others")
    assert not is_drawn(folder, (*NAMES, "c.png"), "inputs")
