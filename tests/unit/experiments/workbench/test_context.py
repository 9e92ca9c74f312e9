from dataclasses import replace

import pytest
import torch

from experiments.workbench.context import budget, dataset, fresh_model, image_size, parent_model, splits
from pytest_claims.training.training import augmented_batches


def test_a_recipe_without_a_budget_or_data_is_told_by_its_builder(cnn):
    context = replace(cnn.context, recipe=replace(cnn.context.recipe, budget=None), dataset=None)
    with pytest.raises(ValueError, match=r"builder .experiments\.builders\.train.: the recipe has no budget"):
        budget(context)
    with pytest.raises(ValueError, match=r"builder .experiments\.builders\.train.: the recipe has no data"):
        dataset(context)


def test_the_first_weights_are_the_seeds_whatever_was_drawn_before(cnn):
    torch.manual_seed(5)
    first = fresh_model(cnn.context).state_dict()
    training, _ = splits(cnn.context)
    list(augmented_batches(training, budget(cnn.context), 0, 0))
    parent_model(replace(cnn.context, parents={"original": cnn.parent}), "original")
    again = fresh_model(cnn.context).state_dict()
    other = fresh_model(replace(cnn.context, seed=1)).state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.equal(other["0.0.weight"], first["0.0.weight"])


def test_a_parent_is_as_it_was_stored(cnn):
    model = parent_model(replace(cnn.context, parents={"original": cnn.parent}), "original")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in cnn.built.state.items())


def test_both_splits_and_the_size_are_the_datas(cnn, dataset):
    training, validation = splits(cnn.context)
    assert (len(training), len(validation)) == (30, 21)
    assert torch.equal(validation.labels, torch.from_numpy(dataset.validation.labels))
    assert image_size(cnn.context) == dataset.training.images.shape[1:3] == (16, 16)
