import numpy as np
import pytest

from experiments.builders.slim import pruned_parent
from pytest_claims.recipes.recipe import Architecture, Recipe

PRUNED = Architecture("experiments.models.student", (("widths", (4, 4, 8, 9, 7, 5, 6, 8)),))


@pytest.fixture(scope="module")
def finetune(run, student):
    def finetune_with(budget, operation="slim_finetune"):
        builder = f"experiments.builders.{operation}"
        recipe = Recipe(builder, PRUNED, "target", budget, (), (("original", student.context.recipe),))
        return run(recipe, original=student)

    return finetune_with


def test_a_fine_tuned_model_is_measured(finetune, budget, check_training):
    check_training(finetune(budget))


def test_the_pruned_models_own_parameters_are_stepped(finetune, budget):
    tuned = finetune(budget)
    started = dict(pruned_parent(tuned.context).named_parameters())
    for name, value in started.items():
        assert value.shape == tuned.state[name].shape
        assert not np.array_equal(tuned.state[name], value.detach().numpy()), name


def test_it_starts_from_the_same_cut_as_without_fine_tuning(finetune, still, budget):
    started, untuned = finetune(still).state, finetune(budget, "slim").state
    for name, value in untuned.items():
        assert np.array_equal(started[name], value) or "running_" in name or "num_" in name, name


def test_the_parent_stays(finetune, budget, student):
    before = student.weights.read_bytes()
    finetune(budget)
    assert student.weights.read_bytes() == before
