import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import convolutions, effective_kernel, images, networks
from torch import nn

from compression.cost import multiply_accumulates
from compression.low_rank.candidates import candidates, measure_positions
from compression.low_rank.factorization import full_ranks, schemes_of
from compression.low_rank.factorizing import factorizable_layers, factorize_layer

properties = settings(deadline=None, max_examples=30)
PLANNED = ("svd", "spatial", "tucker")


@given(convolutions(groups=st.integers(1, 3)), st.data())
@properties
def test_cost_and_loss_are_those_of_the_layer_once_factorized(conv, data):
    shape = (conv.in_channels, 7, 6)
    positions = measure_positions(conv, {"": conv}, shape)[""]
    found = candidates(conv, PLANNED, positions)
    index = data.draw(st.integers(0, len(found.schemes) - 1))
    way = found.at(index)
    factors = conv if way is None else factorize_layer(conv, way)
    assert found.costs[index] == multiply_accumulates(factors, shape)
    kernel = effective_kernel(conv, conv)
    lost = (effective_kernel(factors, conv) - kernel).norm() / kernel.norm()
    assert found.lost[index] == pytest.approx(lost.item() ** 2, abs=1e-12)


def test_the_dense_layer_and_all_ranks_of_the_schemes_are_there():
    conv = nn.Conv2d(3, 4, 3)
    found = candidates(conv, PLANNED)
    ways = [found.at(index) for index in range(len(found.schemes))]
    assert ways[0] is None
    ranks = {scheme: {way.ranks for way in ways[1:] if way.scheme == scheme} for scheme in PLANNED}
    assert ranks["svd"] == set()
    assert ranks["spatial"] == {(rank,) for rank in range(1, 10)}
    assert ranks["tucker"] == {(a, b) for a in range(1, 5) for b in range(1, 4)}
    assert len(ways) == 1 + 9 + 12
    assert len(candidates(conv, ["svd"]).schemes) == 1
    assert len(candidates(nn.Linear(6, 5), PLANNED).schemes) == 1 + 5


@given(networks())
@settings(deadline=None, max_examples=10)
def test_the_dense_costs_of_a_networks_layers_are_the_networks(model):
    layers = factorizable_layers(model)
    positions = measure_positions(model, layers, images().shape[1:])
    costs = [candidates(layer, (), positions[name]).costs[0] for name, layer in layers.items()]
    assert sum(costs) == multiply_accumulates(model, tuple(images().shape[1:]))


def test_a_layer_that_runs_twice_costs_twice():
    linear = nn.Linear(4, 4)
    model = nn.Sequential(linear, nn.ReLU(), linear)
    assert measure_positions(model, {"0": linear}, (5, 4))["0"].outputs == 10


def test_a_weight_of_zeros_loses_nothing():
    conv = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(conv.weight)
    assert not np.any(candidates(conv, PLANNED).lost)


def test_a_layer_has_the_schemes_that_can_be_made_of_it():
    for layer in (nn.Linear(4, 6), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, (1, 3)), nn.Conv2d(4, 6, 3, groups=2)):
        for scheme in ("svd", "spatial", "tucker", "cp"):
            if scheme in schemes_of(layer):
                assert min(full_ranks(layer, scheme)) >= 1
            else:
                with pytest.raises(ValueError, match=f"can't have the scheme '{scheme}'"):
                    full_ranks(layer, scheme)


def test_cp_cannot_be_planned():
    with pytest.raises(ValueError, match="the scheme 'cp' can't be planned"):
        candidates(nn.Conv2d(3, 4, 3), ("tucker", "cp"))


def test_a_weight_that_is_not_finite_is_an_error():
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"the weight of Linear.* not finite"):
        candidates(layer, ("svd",))
