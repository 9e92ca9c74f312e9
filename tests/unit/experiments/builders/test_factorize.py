import numpy as np
import pytest

from compression.low_rank.factorizing import factorize
from compression.low_rank.rank_allocation import plan_for_parameters
from compression.low_rank.uniform import factorize_to_budget
from experiments.builders.factorize import RANKS
from experiments.workbench.context import parent_model
from pytest_claims.recipes.recipe import Recipe

PARAMETERS = 3000


@pytest.fixture(scope="module")
def factorized(run, cnn, budget):
    def factorize_by(ranks, parameters=PARAMETERS):
        settings = (("ranks", ranks), ("parameters", parameters))
        parents = (("original", cnn.context.recipe),)
        recipe = Recipe(
            "experiments.builders.factorize", cnn.context.recipe.architecture, "target", budget, settings, parents
        )
        return run(recipe, original=cnn)

    return factorize_by


@pytest.mark.parametrize("ranks", RANKS)
def test_a_factorized_model_is_measured_and_keeps_its_budget(factorized, check_measurements, ranks):
    made = factorized(ranks)
    check_measurements(made)
    assert made.built.measurements["parameters"] <= PARAMETERS


@pytest.mark.parametrize(
    ("ranks", "oracle"),
    [
        ("uniform", factorize_to_budget),
        ("allocated", lambda model, parameters: factorize(model, plan_for_parameters(model, parameters))),
    ],
)
def test_its_weights_are_the_parents_best_approximation(factorized, ranks, oracle):
    made = factorized(ranks)
    expected = oracle(parent_model(made.context, "original"), PARAMETERS)
    for name, value in expected.named_parameters():
        assert np.array_equal(made.state[name], value.detach().numpy()), name


def test_a_budget_that_cannot_be_kept_is_told(factorized):
    with pytest.raises(ValueError, match="budget of 10 parameters is below"):
        factorized("uniform", 10)
