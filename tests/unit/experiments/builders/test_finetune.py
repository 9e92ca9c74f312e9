from dataclasses import replace

import numpy as np
import pytest

from experiments.workbench.context import splits
from experiments.workbench.teaching import distillation_from_teacher
from pytest_claims.recipes.recipe import Recipe
from pytest_claims.training.training import Unwatched, fit


def tuned(run, original, budget, teacher=None, settings=()):
    parents = (("original", original.context.recipe),)
    if teacher is not None:
        parents += (("teacher", teacher.context.recipe),)
    recipe = Recipe(
        "experiments.builders.finetune", original.context.recipe.architecture, "target", budget, settings, parents
    )
    return run(recipe, original=original, **({} if teacher is None else {"teacher": teacher}))


@pytest.fixture(scope="module")
def pruned(run, cnn, budget):
    settings = (("criterion", "filter-norm"), ("parameters", 3000))
    parents = (("original", cnn.context.recipe),)
    return run(
        Recipe("experiments.builders.prune", cnn.context.recipe.architecture, "target", budget, settings, parents),
        original=cnn,
    )


def test_a_compressed_model_is_trained_in_its_own_shape(run, pruned, budget, check_training):
    made = tuned(run, pruned, budget)
    check_training(made)
    assert made.built.measurements["parameters"] == pruned.built.measurements["parameters"]
    moved = [name for name, value in made.state.items() if not np.array_equal(value, pruned.state[name])]
    assert moved == [*made.state]


def test_an_uncompressed_one_is_trained_too(run, cnn, budget, check_training):
    check_training(tuned(run, cnn, budget))


def test_without_a_rate_only_statistics_move(run, pruned, still):
    made = tuned(run, pruned, still)
    moved = {name for name, value in made.state.items() if not np.array_equal(value, pruned.state[name])}
    assert {name.rpartition(".")[2] for name in moved} <= {"running_mean", "running_var", "num_batches_tracked"}


def test_with_a_teacher_it_learns_its_answers(run, pruned, cnn, budget):
    settings = (("temperature", 4.0), ("alpha", 0.5))
    taught, labelled = tuned(run, pruned, budget, cnn, settings), tuned(run, pruned, budget)
    assert taught.built.history != labelled.built.history
    training, validation = splits(taught.context)
    objective = distillation_from_teacher(taught.context, training)
    model = pruned.model(3)
    fit(model, training, validation, budget, objective, 0, Unwatched())
    for name, value in model.state_dict().items():
        assert np.array_equal(taught.state[name], value.numpy()), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_teacher_answers_in_the_precision_that_it_was_trained_in(run, cnn, pruned, budget, precision):
    settings = (("temperature", 4.0), ("alpha", 0.5))
    trained = replace(cnn.context.recipe, budget=replace(cnn.context.recipe.budget, precision=precision))
    teacher = replace(cnn, context=replace(cnn.context, recipe=trained))
    made = tuned(run, pruned, budget, teacher, settings)
    same = tuned(run, pruned, budget, cnn, settings)
    equal = all(np.array_equal(value, same.state[name]) for name, value in made.state.items())
    assert equal == (precision == "float32")
