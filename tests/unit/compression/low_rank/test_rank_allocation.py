import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import SIDE, networks
from torch import nn

from compression.cost import multiply_accumulates, parameter_count
from compression.low_rank.candidates import candidates
from compression.low_rank.factorization import weight_count
from compression.low_rank.factorizing import factorizable_layers, factorize
from compression.low_rank.rank_allocation import (
    SCHEMES,
    plan_for_energy,
    plan_for_multiply_accumulates,
    plan_for_parameters,
)

SHAPE = (3, SIDE, SIDE)


def tiny_model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(7, 6))


def loss_of(model, plan):
    """The sum of the shares that the plan's layers lose, from all candidates."""
    total = 0
    for name, way in plan.items():
        found = candidates(model.get_submodule(name), SCHEMES)
        total += found.lost[[found.at(index) for index in range(len(found.schemes))].index(way)]
    return total


def best_losses(model):
    """The least loss of any plan by its parameters, found by trying all."""
    best = {parameter_count(model) - sum(layer.weight.numel() for layer in factorizable_layers(model).values()): 0.0}
    for layer in factorizable_layers(model).values():
        found = candidates(layer, SCHEMES)
        cheapest = {}
        for cost, lost in zip(found.costs.tolist(), found.lost.tolist(), strict=True):
            cheapest[cost] = min(lost, cheapest.get(cost, np.inf))
        combined = {}
        for (total, loss), (cost, lost) in itertools.product(best.items(), cheapest.items()):
            combined[total + cost] = min(loss + lost, combined.get(total + cost, np.inf))
        best = combined
    return best


def lower_hull(losses):
    """The corners of the lower convex hull of (cost, loss)."""
    corners = []
    for x, y in sorted(losses.items()):
        while len(corners) > 1:
            (left, high), (middle, low) = corners[-2:]
            if (low - high) * (x - left) < (y - high) * (middle - left) - 1e-12:
                break
            corners.pop()
        if not corners or y < corners[-1][1]:
            corners.append((x, y))
    return corners


@pytest.mark.parametrize("seed", range(3))
def test_no_plan_within_the_budget_loses_less_at_the_hulls_corners_and_else_none_beats_the_next_one(seed):
    model = tiny_model(seed)
    best = best_losses(model)
    corners = lower_hull(best)
    assert len(corners) > 5
    for (cost, loss), (next_cost, next_loss) in itertools.pairwise(corners):
        assert loss_of(model, plan_for_parameters(model, cost)) == pytest.approx(loss, abs=1e-12)
        for budget in {(cost + next_cost) // 2, next_cost - 1}:
            plan = plan_for_parameters(model, budget)
            assert parameter_count(factorize(model, plan)) <= budget
            least = min(other for count, other in best.items() if count <= budget)
            assert least - 1e-12 <= loss_of(model, plan) <= loss + 1e-12
            assert loss_of(model, plan) - least <= loss - next_loss + 1e-12


@given(networks(), st.floats(0, 1))
@settings(deadline=None, max_examples=15)
def test_a_networks_parameters_are_within_the_budget_and_near_to_it(model, position):
    dense = parameter_count(model)
    smallest = dense - sum(
        layer.weight.numel() - candidates(layer, SCHEMES).costs.min() for layer in factorizable_layers(model).values()
    )
    budget = int(smallest + position * (dense - smallest))
    plan = plan_for_parameters(model, budget)
    assert smallest <= parameter_count(factorize(model, plan)) <= budget
    with pytest.raises(ValueError, match=f"budget of {smallest - 1} parameters is below {smallest}, the smallest"):
        plan_for_parameters(model, smallest - 1)


@given(networks(), st.floats(0.4, 1))
@settings(deadline=None, max_examples=15)
def test_a_networks_multiply_accumulates_are_within_the_budget(model, share):
    dense = multiply_accumulates(model, SHAPE)
    budget = int(share * dense)
    try:
        plan = plan_for_multiply_accumulates(model, budget, SHAPE)
    except ValueError as error:
        smallest = int(str(error).split()[-3].rstrip(","))
        plan = plan_for_multiply_accumulates(model, smallest, SHAPE)
        assert multiply_accumulates(factorize(model, plan), SHAPE) == smallest > budget
    else:
        assert multiply_accumulates(factorize(model, plan), SHAPE) <= budget


def test_a_budget_of_the_whole_model_leaves_it_dense_or_loses_nothing():
    model = tiny_model(0)
    plan = plan_for_parameters(model, parameter_count(model))
    assert loss_of(model, plan) < 1e-12


@given(networks(), st.floats(0.05, 1))
@settings(deadline=None, max_examples=15)
def test_each_layer_keeps_its_share_of_energy_with_the_fewest_weights(model, share):
    plan = plan_for_energy(model, share)
    for name, layer in factorizable_layers(model).items():
        found = candidates(layer, SCHEMES)
        enough = [cost for cost, lost in zip(found.costs, found.lost, strict=True) if lost <= 1 - share + 1e-12]
        cost = weight_count(layer, plan[name]) if name in plan else layer.weight.numel()
        assert cost == min(enough)
        if name in plan:
            assert loss_of(model, {name: plan[name]}) <= 1 - share + 1e-12


def test_only_given_schemes_are_chosen_and_skipped_layers_stay():
    model = tiny_model(0)
    assert {way.scheme for way in plan_for_energy(model, 0.5, schemes=["tucker"]).values()} == {"tucker"}
    assert "4" in plan_for_energy(model, 0.5)
    assert "4" not in plan_for_energy(model, 0.5, skip=["4"])
    assert "4" not in plan_for_parameters(model, 150, skip=["4"])


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_share_out_of_its_bounds_is_an_error(share):
    with pytest.raises(ValueError, match=f"share is {share}; it must be above 0 and at most 1"):
        plan_for_energy(tiny_model(0), share)


def test_a_name_to_skip_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="skip names 'fc'"):
        plan_for_parameters(tiny_model(0), 100, skip=["fc"])
