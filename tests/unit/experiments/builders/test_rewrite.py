import numpy as np
import pytest

from compression.architecture.patch_moments import measure_patch_moments
from compression.architecture.rewriting import (
    grouped_convolutions,
    rewrite_grouped,
    rewrite_separable,
    separable_convolutions,
)
from experiments.builders.rewrite import MOMENT_BATCHES
from experiments.workbench.context import parent_model, training_batches
from pytest_claims.recipes.recipe import Recipe


@pytest.fixture(scope="module")
def rewrite(run, cnn, budget):
    def rewrite_with(weights, groups, seed=0):
        settings = (("groups", groups), ("weights", weights))
        parents = (("original", cnn.context.recipe),)
        recipe = Recipe(
            "experiments.builders.rewrite", cnn.context.recipe.architecture, "target", budget, settings, parents
        )
        return run(recipe, seed, original=cnn)

    return rewrite_with


@pytest.mark.parametrize("groups", [0, 2])
@pytest.mark.parametrize("weights", ["fitted", "random"])
def test_a_rewritten_model_is_measured_and_smaller(rewrite, cnn, check_measurements, weights, groups):
    made = rewrite(weights, groups)
    check_measurements(made)
    assert made.built.measurements["parameters"] < cnn.built.measurements["parameters"]


@pytest.mark.parametrize("groups", [0, 2])
def test_fitted_weights_are_the_least_squares_on_the_first_batches(rewrite, groups):
    made = rewrite("fitted", groups)
    model = parent_model(made.context, "original")
    names = grouped_convolutions(model, groups) if groups else separable_convolutions(model)
    first = [batch.inputs for batch in training_batches(made.context)][:MOMENT_BATCHES]
    moments = measure_patch_moments(model, names, first)
    rewriting = rewrite_grouped(model, groups, moments=moments) if groups else rewrite_separable(model, moments=moments)
    assert len(rewriting.rewritten) > 2
    for name, value in rewriting.model.named_parameters():
        assert np.array_equal(made.state[name], value.detach().numpy()), name


def test_random_weights_are_the_seeds_and_of_the_fitted_ones_shapes(rewrite):
    fitted, first, again, other = (
        rewrite(weights, 0, seed).state
        for weights, seed in (("fitted", 0), ("random", 0), ("random", 0), ("random", 1))
    )
    assert {name: value.shape for name, value in first.items()} == {n: value.shape for n, value in fitted.items()}
    assert all(np.array_equal(value, again[name]) for name, value in first.items())
    kernels = [name for name, value in first.items() if value.ndim == 4 and not np.array_equal(value, other[name])]
    assert len(kernels) > 2


def test_other_weights_are_an_error(rewrite):
    with pytest.raises(ValueError, match="its setting 'weights' is 'good', should be 'fitted' or 'random'"):
        rewrite("good", 2)
