from dataclasses import replace

import numpy as np
import pytest

from compression.low_rank.uniform import factorize_to_budget
from experiments.builders.context import parent_model
from experiments.recipe import Architecture, Recipe

SMALL = Architecture("factorized", (("parameters", 3000), ("original_parameters", 6000)))


@pytest.fixture(scope="module")
def factorize(run, cnn):
    def factorize_with(budget, architecture=SMALL):
        parents = (("original", cnn.context.recipe),)
        return run(Recipe("factorize", architecture, "target", budget, (), parents), original=cnn)

    return factorize_with


def test_a_factorized_model_is_measured_and_keeps_its_budget(factorize, budget, check_training):
    made = factorize(budget)
    check_training(made)
    assert made.built.measurements["parameters"] <= 3000


def test_fine_tuning_starts_from_the_parents_best_approximation(factorize, still):
    made = factorize(still)
    expected = factorize_to_budget(parent_model(made.context, "original"), 3000)
    for name, value in expected.named_parameters():
        assert np.array_equal(made.state[name], value.detach().numpy()), name


def test_fine_tuning_moves_every_parameter(factorize, budget, still):
    tuned, started = factorize(budget).state, factorize(still).state
    assert not [name for name, value in tuned.items() if np.array_equal(value, started[name]) and "num_" not in name]


def test_a_budget_that_cannot_be_kept_is_told(factorize, still):
    options = (("parameters", 10), ("original_parameters", 6000))
    with pytest.raises(ValueError, match="budget of 10 parameters is below"):
        factorize(still, replace(SMALL, options=options))
