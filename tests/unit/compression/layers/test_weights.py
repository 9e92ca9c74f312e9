import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.layers.weights import (
    check_unparametrized,
    output_axis,
    own_parametrized_class,
    replace_weight,
    weight_layers,
)


class Doubled(nn.Module):
    def forward(self, tensor):
        return 2 * tensor


def test_layers_come_once_and_in_order():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), shared, nn.Sequential(shared, nn.ConvTranspose3d(1, 1, 1)))
    assert list(weight_layers(model)) == ["0", "2", "3.1"]
    assert list(weight_layers(model, skip=["2"])) == ["0", "3.1"]
    assert [output_axis(layer) for layer in weight_layers(model).values()] == [0, 0, 1]


def test_a_name_that_is_no_such_layer_is_an_error():
    with pytest.raises(ValueError, match="layer '1', to be skipped, is no convolution or linear layer"):
        weight_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), skip=["1"])


def test_a_copy_whose_weight_is_replaced_leaves_the_original_alone():
    layer = nn.Linear(2, 2, bias=False)
    parametrize.register_parametrization(layer, "weight", Doubled())
    copied = copy.deepcopy(layer)
    replace_weight(copied, torch.ones(2, 2))
    inputs = torch.randn(3, 2)
    assert torch.equal(copied(inputs), inputs @ torch.ones(2, 2))
    assert torch.equal(layer(inputs), inputs @ (2 * layer.parametrizations.weight.original).T)


def test_a_class_of_its_own_keeps_what_the_layer_computes():
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Doubled())
    copied = copy.deepcopy(layer)
    own_parametrized_class(copied)
    assert type(copied) is not type(layer)
    inputs = torch.randn(3, 2)
    assert torch.equal(copied(inputs), layer(inputs))
    plain = nn.Linear(2, 2)
    own_parametrized_class(plain)
    assert type(plain) is nn.Linear


def test_a_parametrized_weight_is_named():
    layer = nn.Linear(2, 2)
    check_unparametrized("fc", layer)
    parametrize.register_parametrization(layer, "weight", Doubled())
    with pytest.raises(ValueError, match=r"layer 'fc': its weight is already parametrized by \['Doubled'\]"):
        check_unparametrized("fc", layer)
