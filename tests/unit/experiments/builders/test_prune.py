import numpy as np
import pytest
import torch
from torch.nn import functional as F

from compression.pruning.criteria import taylor
from compression.pruning.graph import channel_graph
from experiments.builders.prune import CRITERIA
from experiments.workbench.context import parent_model, splits
from pytest_claims.recipes.recipe import Recipe
from pytest_claims.training.training import augmented_batches

PARAMETERS = 3000


@pytest.fixture(scope="module")
def prune(run, cnn, budget):
    def prune_by(criterion, parameters=PARAMETERS, seed=0):
        settings = (("criterion", criterion), ("parameters", parameters))
        parents = (("original", cnn.context.recipe),)
        return run(
            Recipe("experiments.builders.prune", cnn.context.recipe.architecture, "target", budget, settings, parents),
            seed,
            original=cnn,
        )

    return prune_by


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_pruned_model_is_measured_and_keeps_its_budget(prune, check_measurements, criterion):
    made = prune(criterion)
    check_measurements(made)
    assert 0.8 * PARAMETERS < made.built.measurements["parameters"] <= PARAMETERS


def test_signed_gamma_keeps_the_channels_of_largest_gamma(prune, cnn):
    state = prune("signed-gamma").state
    scales = [name for name, value in cnn.state.items() if value.ndim == 1 and f"{name[:-7]}.running_mean" in cnn.state]
    gammas = [name for name in scales if name.endswith(".weight")]
    assert gammas
    for name in gammas:
        kept = len(state[name])
        assert kept < len(cnn.state[name])
        best = np.sort(np.argsort(-cnn.state[name], kind="stable")[:kept])
        assert np.array_equal(state[name], cnn.state[name][best])


def test_random_channels_are_the_seeds(prune):
    first, again, other = (prune("random", seed=seed).state for seed in (0, 0, 1))
    assert all(np.array_equal(value, again[name]) for name, value in first.items())
    assert not all(np.array_equal(value, other[name]) for name, value in first.items())


def test_taylor_is_scored_on_the_training_images(prune, budget):
    context = prune("taylor").context
    model = parent_model(context, "original")
    graph = channel_graph(model, (3, 16, 16))
    training, _ = splits(context)
    batches = [
        (batch.inputs, batch.labels)
        for epoch in range(budget.epochs)
        for batch in augmented_batches(training, budget, context.seed, epoch)
    ]
    expected = taylor(model, graph, batches, F.cross_entropy)
    scores = CRITERIA["taylor"](model, graph, context)
    assert all(torch.equal(values, expected.values[name]) for name, values in scores.values.items())


def test_a_budget_that_cannot_be_kept_is_told(prune):
    with pytest.raises(ValueError, match="budget 5 can't be met"):
        prune("signed-gamma", parameters=5)


def test_a_setting_of_another_type_is_named(prune):
    with pytest.raises(
        ValueError, match=r"builder 'experiments\.builders\.prune': its setting 'parameters' is '9', should be int"
    ):
        prune("signed-gamma", parameters="9")
