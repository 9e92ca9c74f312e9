from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.builders.slim import pruned_parent
from experiments.models.student_widths import PRUNED_BLOCKS
from experiments.workbench.context import parent_model, splits
from pytest_claims.recipes.recipe import Architecture, Recipe
from pytest_claims.training.training import augmented_batches

WIDTHS = (4, 4, 8, 9, 7, 5, 6, 8)
PRUNED = Architecture("experiments.models.student", (("widths", WIDTHS),))


@pytest.fixture(scope="module")
def slimmed(run, student, budget):
    recipe = Recipe("experiments.builders.slim", PRUNED, "target", budget, (), (("original", student.context.recipe),))
    return run(recipe, original=student)


def cut(state):
    """The parent's tensors without the channels of smallest signed gamma, picked with numpy."""
    kept = {}
    for block in PRUNED_BLOCKS:
        gamma = state[f"{block + 1}.1.weight"]
        kept[block] = np.sort(np.argsort(-gamma, kind="stable")[: WIDTHS[block]])
    expected = dict(state)
    for name, value in state.items():
        block, _, layer = name.partition(".")
        if layer.startswith(("0.", "1.")) and int(block) - 1 in kept and value.ndim:
            value = value[kept[int(block) - 1]]
        if layer == "3.weight" and int(block) - 1 in kept:
            value = value[:, kept[int(block) - 1]]
        if layer.startswith("3.") and int(block) in kept:
            value = value[kept[int(block)]]
        expected[name] = value
    return expected


def test_nothing_but_bn_statistics_differs_from_the_cut_parent(slimmed, student):
    expected = cut(student.state)
    assert slimmed.state.keys() == expected.keys()
    for name, value in slimmed.state.items():
        assert value.shape == expected[name].shape, name
        if "num_batches_tracked" not in name:
            assert np.array_equal(value, expected[name]) == ("running_" not in name), name


def test_the_scales_are_told_apart_or_the_choice_would_be_untested(student):
    for block in PRUNED_BLOCKS:
        gamma = student.state[f"{block + 1}.1.weight"]
        assert len(set(gamma.tolist())) == len(gamma)


def test_it_is_measured(slimmed, check_measurements, student):
    check_measurements(slimmed)
    assert slimmed.built.measurements["best_accuracy"] == slimmed.built.measurements["accuracy"]
    assert slimmed.built.measurements["parameters"] < student.built.measurements["parameters"]
    assert slimmed.built.history == []


def test_statistics_are_averages_over_the_budgets_passes(slimmed, student, budget):
    training, _ = splits(slimmed.context)
    convolution = parent_model(slimmed.context, "original")[0][0]
    batches = [batch for epoch in range(budget.epochs) for batch in augmented_batches(training, budget, 0, epoch)]
    with torch.no_grad():
        outputs = [convolution(batch.inputs).double().transpose(0, 1).flatten(1) for batch in batches]
    mean = torch.stack([output.mean(1) for output in outputs]).mean(0)
    variance = torch.stack([output.var(1) for output in outputs]).mean(0)
    assert np.allclose(slimmed.state["0.1.running_mean"], mean, rtol=1e-4, atol=1e-6)
    assert np.allclose(slimmed.state["0.1.running_var"], variance, rtol=1e-4)
    assert slimmed.state["0.1.num_batches_tracked"] == len(batches) == 6


def test_the_parent_stays(slimmed, student):
    before = student.weights.read_bytes()
    pruned_parent(slimmed.context)
    assert student.weights.read_bytes() == before


def test_the_next_step_prunes_the_pruned(run, slimmed, budget):
    widths = tuple(width - (block in PRUNED_BLOCKS) for block, width in enumerate(WIDTHS))
    recipe = replace(
        slimmed.context.recipe,
        architecture=Architecture("experiments.models.student", (("widths", widths),)),
        parents=(("original", slimmed.context.recipe),),
    )
    second = run(recipe, original=slimmed)
    assert second.built.measurements["parameters"] < slimmed.built.measurements["parameters"]
    rows = {row.tobytes() for row in slimmed.state["4.0.weight"]}
    assert {row.tobytes() for row in second.state["4.0.weight"]} < rows


def test_widths_above_the_parents_are_told_with_the_layer(run, student, budget):
    architecture = Architecture("experiments.models.student", (("widths", (4, 4, 8, 13, 7, 5, 6, 8)),))
    recipe = Recipe(
        "experiments.builders.slim", architecture, "target", budget, (), (("original", student.context.recipe),)
    )
    with pytest.raises(ValueError, match=r"group '3\.3': 13 units to keep of 12"):
        run(recipe, original=student)


def test_widths_of_another_kind_are_told(slimmed):
    recipe = replace(slimmed.context.recipe, architecture=Architecture("experiments.models.student", (("widths", 4),)))
    with pytest.raises(TypeError, match="recipe: widths are 4, must be the output channels of each block"):
        pruned_parent(replace(slimmed.context, recipe=recipe))
