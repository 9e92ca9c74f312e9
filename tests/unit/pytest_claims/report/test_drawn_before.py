from dataclasses import replace
from importlib import invalidate_caches

import pytest

from pytest_claims.report import drawn_before
from pytest_claims.report.drawn_before import RECORD, drawing_inputs, is_drawn, record_drawn

NAMES = ("a.png", "b.png")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A project's package with a module that draws, which nobody has imported."""
    folder = tmp_path / "painted_report"
    (folder / "deep").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    return folder


def test_inputs_are_the_numbers_the_words_and_the_library(models, conditions, monkeypatch):
    (name, model), *_ = models.items()

    def inputs_of(model=model, conditions=conditions):
        return drawing_inputs({name: model}, conditions, ["pytest_claims.report.plot_sizes"])

    outline = conditions.outline
    inputs = [
        inputs_of(),
        inputs_of(conditions=replace(conditions, profile="another")),
        inputs_of(conditions=replace(conditions, outline=replace(outline, families={}))),
        inputs_of(conditions=replace(conditions, outline=replace(outline, curves=()))),
        drawing_inputs({}, conditions, ["pytest_claims.report.plot_sizes"]),
        inputs_of(replace(model, size=model.size + 1)),
        inputs_of(replace(model, accuracies=model.accuracies[::-1])),
        inputs_of(replace(model, family="another")),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(drawn_before, "version", lambda name: {"matplotlib": "0.1"}[name])
        inputs.append(inputs_of())
    assert len(set(inputs)) == len(inputs)
    assert inputs_of() == inputs[0]


@pytest.mark.parametrize("marker", [True, False], ids=["package", "namespace"])
def test_inputs_are_the_code_of_the_packages_that_draw(conditions, package, marker):
    if marker:
        (package / "__init__.py").touch()
    inputs = [drawing_inputs({}, conditions, ["painted_report.plots"])]
    for name in ("plots.py", "deep/colours.py"):
        for text in ("color = 'red'", "color = 'blue'"):
            (package / name).write_text(text)
            inputs.append(drawing_inputs({}, conditions, ["painted_report.plots"]))
    assert len(set(inputs)) == len(inputs)
    assert drawing_inputs({}, conditions, ["painted_report.other", "painted_report.plots"]) == inputs[-1]


def test_of_a_module_in_no_package_what_lies_beside_it_counts_and_nothing_below(conditions, package):
    inputs = []
    for name in ("painted_plots.py", "painted_colours.py", "painted_report/colours.py"):
        (package.parent / name).touch()
        invalidate_caches()
        inputs.append(drawing_inputs({}, conditions, ["painted_plots"]))
    assert inputs[0] != inputs[1] == inputs[2]


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
