from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compression.packing.state_file import save_state_dict
from experiments.builders.train import transfer
from experiments.workbench.context import fresh_model
from pytest_claims.recipes.recipe import Architecture, Recipe
from pytest_claims.training.context import Parent

RESNET = Architecture("experiments.models.resnet18")


def test_a_trained_model_is_measured(cnn, student, check_training):
    check_training(cnn)
    check_training(student)


def test_training_moves_every_parameter(cnn):
    fresh = dict(fresh_model(cnn.context).named_parameters())
    for name, value in fresh.items():
        assert not np.array_equal(cnn.state[name], value.detach().numpy()), name


def test_another_seed_is_another_model(run, cnn):
    other = run(cnn.context.recipe, seed=1)
    assert not np.array_equal(other.state["0.0.weight"], cnn.state["0.0.weight"])


class Backbone(nn.Sequential):
    """Names its classifier as ResNet18 does."""

    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, classes)


@pytest.fixture
def stored(tmp_path):
    """Writes tensors as a parent's weights."""

    def write(state):
        path = tmp_path / "parent.safetensors"
        save_state_dict(state, path)
        return Parent(Recipe("experiments.builders.train", RESNET), path, {})

    return write


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_transfer_leaves_the_head_and_missing_layers_as_initialised(stored):
    given = Backbone(60).state_dict()
    del given["bn1.weight"]
    model = Backbone(3)
    before = snapshot(model)
    transfer(stored(given), model)
    for name, value in model.state_dict().items():
        kept = name.startswith("fc.") or name == "bn1.weight"
        assert torch.equal(value, before[name] if kept else given[name]), name
    assert not torch.equal(before["conv1.weight"], given["conv1.weight"])


@pytest.mark.parametrize(
    ("name", "shape", "there"),
    [("conv1.weight", (4, 3, 5, 5), r"\[4, 3, 3, 3\]"), ("layer1.weight", (2, 2), "missing")],
)
def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_copied(stored, name, shape, there):
    model = Backbone(3)
    before = snapshot(model)
    parent = stored({**Backbone(3).state_dict(), name: torch.zeros(shape)})
    with pytest.raises(ValueError, match=rf"pre-trained tensor '{name}' has shape .*; the model's is {there}"):
        transfer(parent, model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.slow
def test_fine_tuning_starts_from_the_parent_but_for_its_head(run, still):
    recipe = Recipe("experiments.builders.train", RESNET, "target", replace(still, batch_size=30))
    scratch = run(recipe)
    source = run(recipe, seed=5)
    tuned = run(replace(recipe, parents=(("initial", recipe),)), initial=source)
    for name, value in tuned.state.items():
        if "running_" in name or "num_batches" in name:
            continue
        expected = scratch if name.startswith("fc.") else source
        assert np.array_equal(value, expected.state[name]), name
    assert not np.array_equal(scratch.state["conv1.weight"], source.state["conv1.weight"])
