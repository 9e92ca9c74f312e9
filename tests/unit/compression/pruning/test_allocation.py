from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import random_networks, randomized
from torch import nn

from compression.cost import multiply_accumulates, parameter_count
from compression.pruning.allocation import (
    global_order,
    keep_counts,
    keep_width,
    layerwise_order,
    remove_rate,
    remove_until,
    state_bytes,
)
from compression.pruning.criteria import Scores, filter_norm, random_scores, relative_to_group, signed_gamma
from compression.pruning.cut import prune, units_to_keep
from compression.pruning.graph import channel_graph

SMALL = (3, 6, 6)
STUDENT_CHANNELS = (16, 32, 64, 128, 256, 256, 256, 256)
REPORTED = {
    0.95: (236066, 217850, 200354, 185091, 171606),
    0.9: (216518, 183578, 156084, 132858, 114810),
}
properties = settings(deadline=None, max_examples=25)


def chain():
    """Groups "0" of four units, "1" of eight and "2" of two."""
    convolutions = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 2, 1)]
    model = randomized(nn.Sequential(*convolutions)).float()
    return model, channel_graph(model, SMALL)


def scored(**values):
    return Scores({name.strip("_"): torch.tensor(scores, dtype=torch.float64) for name, scores in values.items()}, {})


@given(
    st.lists(st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 3.0]) | st.floats(-1, 1), min_size=1, max_size=20),
    st.data(),
)
@properties
def test_the_highest_scores_are_kept_of_equal_ones_the_first(values, data):
    count = data.draw(st.integers(1, len(values)))
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])
    assert keep_counts(scored(a=values), {"a": count})["a"].tolist() == expected


def test_the_sign_of_a_score_counts_and_many_equal_ones_keep_the_first():
    assert keep_counts(scored(a=[-9.0, 0.1, -0.2, 0.3]), {"a": 2})["a"].tolist() == [1, 3]
    assert keep_counts(scored(a=[1.0] * 256), {"a": 100})["a"].tolist() == list(range(100))


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_count_out_of_bounds_names_the_group(count):
    with pytest.raises(ValueError, match=f"group 'a': {count} units to keep of 3; from 1 to 3"):
        keep_counts(scored(a=[1.0, 2.0, 3.0]), {"a": count})


def test_a_group_without_scores_is_told_with_the_reason():
    scores = Scores({}, {"a": "no BatchNorm with a gamma for 3 of its 3 units"})
    with pytest.raises(ValueError, match="group 'a': no BatchNorm"):
        keep_counts(scores, {"a": 1})
    with pytest.raises(ValueError, match="group 'b': the graph has no such group"):
        keep_counts(scores, {"b": 1})


@pytest.mark.parametrize("rate", REPORTED)
def test_the_reported_parameter_counts_come_out(build_student, rate):
    model = build_student()
    graph = channel_graph(model, (3, 16, 16))
    scores = signed_gamma(model, graph)
    pruned_blocks = Scores({f"blocks.{block}.3": scores.values[f"blocks.{block}.3"] for block in range(3, 7)}, {})
    kept = [keep_width(pruned_blocks, rate**step) for step in range(1, 6)]
    assert tuple(parameter_count(prune(model, graph, selection)) for selection in kept) == REPORTED[rate]


def test_a_width_multiplier_truncates_and_leaves_one():
    assert [len(kept) for kept in keep_width(scored(a=[1.0] * 10, b=[1.0] * 3), 0.29).values()] == [2, 1]


@pytest.mark.parametrize("multiplier", [0.0, -1.0, 1.1, float("nan"), float("inf")])
def test_a_multiplier_out_of_bounds_is_an_error(multiplier):
    with pytest.raises(ValueError, match=f"multiplier is {multiplier}; above 0 and at most 1"):
        keep_width(scored(a=[1.0]), multiplier)


def test_the_global_order_is_by_score_whatever_the_group():
    _, graph = chain()
    scores = scored(_0=[5.0, 1.0, 9.0, 2.0], _1=[0.0, 3.0, 8.0, 1.0, 7.0, 7.0, 6.0, 4.0], _2=[0.5, 10.0])
    # Units are numbered through the groups: 0-3, 4-11, 12-13. Each group's best stays.
    assert global_order(graph, scores) == [4, 12, 7, 1, 3, 5, 11, 0, 10, 9, 8]


def test_the_layerwise_order_takes_the_same_share_of_each_group():
    _, graph = chain()
    order = layerwise_order(graph, random_scores(graph, 3))
    assert len(order) == 3 + 7 + 1
    for removed in range(len(order) + 1):
        shares = [sum(unit in group.units for unit in order[:removed]) / len(group.units) for group in graph.groups]
        # No group is ahead of another by more than the step of the coarsest.
        assert max(shares) - min(shares) <= 1 / 2


def test_within_a_group_both_orders_agree_with_the_scores():
    _, graph = chain()
    scores = random_scores(graph, 4)
    for order in (global_order(graph, scores), layerwise_order(graph, scores)):
        for group in graph.groups:
            ranked = sorted(group.units, key=lambda unit: float(scores.values[group.name][unit - group.units.start]))
            assert [unit for unit in order if unit in group.units] == ranked[:-1]


@given(random_networks(), st.integers(0, 2**31))
@properties
def test_no_order_empties_a_layer(drawn, seed):
    model, shape = drawn
    graph = channel_graph(model, shape)
    for order_by in (global_order, layerwise_order):
        order = order_by(graph, random_scores(graph, seed))
        keep = torch.ones(graph.unit_count + 1, dtype=torch.bool)
        keep[order] = False
        selection = {
            group.name: keep[group.units.start : group.units.stop].nonzero().flatten() for group in graph.groups
        }
        units_to_keep(graph, selection)
        # One unit more would empty a layer.
        for unit in set(range(graph.unit_count)) - set(order):
            sides = [side for layer in graph.layers.values() for side in (layer.inputs, layer.outputs)]
            assert any(set(side[keep[side]].tolist()) == {unit} for side in sides)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.75])
def test_a_rate_removes_its_share_of_all_units(rate):
    _, graph = chain()
    order = global_order(graph, random_scores(graph, 0))
    selection = remove_rate(graph, order, rate)
    left = {group.units[unit] for group in graph.groups for unit in selection.get(group.name, range(len(group.units)))}
    assert left == set(range(14)) - set(order[: int(rate * 14)])


def test_a_rate_that_cannot_be_is_an_error():
    _, graph = chain()
    order = global_order(graph, random_scores(graph, 0))
    with pytest.raises(ValueError, match=r"rate 0.9 asks for 12 of 14 units; 11 can go"):
        remove_rate(graph, order, 0.9)
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"rate is {rate}; from 0 to below 1"):
            remove_rate(graph, order, rate)


@given(
    random_networks(), st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([parameter_count, state_bytes, "macs"])
)
@settings(deadline=None, max_examples=10)
def test_a_budget_is_met_and_one_unit_fewer_would_break_it(drawn, seed, strictness, cost):
    model, shape = drawn
    model = model.float()
    # Counted for a batch of one, in which torch refuses to normalize a single number.
    assume(cost != "macs" or not any(isinstance(layer, nn.GroupNorm) for layer in model.modules()))
    cost = partial(multiply_accumulates, input_shape=shape) if cost == "macs" else cost
    graph = channel_graph(model, shape)
    order = global_order(graph, random_scores(graph, seed))
    keep_all = [torch.arange(len(group.units)) for group in graph.groups]

    def cost_after(removed):
        gone = set(order[:removed])
        kept = [
            index[[unit not in gone for unit in group.units]]
            for group, index in zip(graph.groups, keep_all, strict=True)
        ]
        return cost(prune(model, graph, {group.name: index for group, index in zip(graph.groups, kept, strict=True)}))

    least, most = cost_after(len(order)), cost_after(0)
    budget = round(least + strictness * (most - least))
    selection = remove_until(model, graph, order, cost, budget)
    assert cost(prune(model, graph, selection)) <= budget
    removed = graph.unit_count - int(units_to_keep(graph, selection)[:-1].sum())
    if removed:
        assert cost_after(removed - 1) > budget
    with pytest.raises(ValueError, match=f"budget {least - 1} can't be met: .* {least} are left"):
        remove_until(model, graph, order, cost, least - 1)


def test_groups_of_other_scale_are_ranked_together_after_division_by_their_mean():
    model, graph = chain()
    with torch.no_grad():
        model[1].weight *= 1000
    scores = filter_norm(model, graph, 2)
    removed = set(global_order(graph, scores)[:4])
    assert not removed & set(graph.group("1").units)
    assert set(global_order(graph, relative_to_group(scores))[:4]) & set(graph.group("1").units)


def test_bytes_are_those_of_parameters_and_buffers():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).half())
    assert state_bytes(model) == 4 * (12 + 4) + 2 * 16 + 8
