from functools import partial
from itertools import accumulate

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import Sum, random_networks, randomized
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
from compression.pruning.graph import ChannelGraph, Group, channel_graph

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


def keep_of(values, count):
    """The kept units of one group without layers, whose units may all go but one."""
    return keep_counts(groups_of(a=len(values)), scored(a=values), {"a": count})["a"].tolist()


def groups_of(**sizes):
    """A graph of groups alone, in which no layer can be emptied."""
    stops = accumulate(sizes.values())
    groups = [
        Group(name, (name,), (), range(stop - sizes[name], stop)) for name, stop in zip(sizes, stops, strict=True)
    ]
    return ChannelGraph(tuple(groups), (), {}, {}, (3,))


@given(
    st.lists(st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 3.0]) | st.floats(-1, 1), min_size=1, max_size=20),
    st.data(),
)
@properties
def test_the_highest_scores_are_kept_of_equal_ones_the_first(values, data):
    count = data.draw(st.integers(1, len(values)))
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])
    assert keep_of(values, count) == expected


def test_the_sign_of_a_score_counts_and_many_equal_ones_keep_the_first():
    assert keep_of([-9.0, 0.1, -0.2, 0.3], 2) == [1, 3]
    assert keep_of([1.0] * 256, 100) == list(range(100))


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_count_out_of_bounds_names_the_group(count):
    with pytest.raises(ValueError, match=f"group 'a': {count} units to keep of 3; from 1 to 3"):
        keep_of([1.0, 2.0, 3.0], count)


def test_a_group_without_scores_is_told_with_the_reason():
    scores = Scores({}, {"a": "no BatchNorm with a gamma for 3 of its 3 units"})
    with pytest.raises(ValueError, match="group 'a': no BatchNorm"):
        keep_counts(groups_of(a=3), scores, {"a": 1})
    with pytest.raises(ValueError, match="group 'b': the graph has no such group"):
        keep_counts(groups_of(a=3), scores, {"b": 1})
    with pytest.raises(ValueError, match="group 'b': the graph has no such group"):
        keep_counts(groups_of(a=3), scored(b=[1.0]), {"b": 1})
    with pytest.raises(ValueError, match="group 'a': 2 scores for 3 units"):
        keep_width(groups_of(a=3), scored(a=[1.0, 2.0]), 0.5)


@pytest.mark.parametrize("rate", REPORTED)
def test_the_reported_parameter_counts_come_out(build_student, rate):
    model = build_student()
    graph = channel_graph(model, (3, 16, 16))
    scores = signed_gamma(model, graph)
    pruned_blocks = Scores({f"blocks.{block}.3": scores.values[f"blocks.{block}.3"] for block in range(3, 7)}, {})
    kept = [keep_width(graph, pruned_blocks, rate**step) for step in range(1, 6)]
    assert tuple(parameter_count(prune(model, graph, selection)) for selection in kept) == REPORTED[rate]


def test_a_width_multiplier_truncates_and_leaves_one():
    scores = scored(a=[1.0] * 10, b=[1.0] * 3, c=[1.0] * 100)
    assert [len(kept) for kept in keep_width(groups_of(a=10, b=3, c=100), scores, 0.29).values()] == [2, 1, 29]


@pytest.mark.parametrize("multiplier", [0.0, -1.0, 1.1, float("nan"), float("inf")])
def test_a_multiplier_out_of_bounds_is_an_error(multiplier):
    with pytest.raises(ValueError, match=f"multiplier is {multiplier}; above 0 and at most 1"):
        keep_width(groups_of(a=1), scored(a=[1.0]), multiplier)


def test_each_concatenated_layer_keeps_its_best_unit_and_the_count_stays():
    model = randomized(Sum())
    graph = channel_graph(model, SMALL)
    scores = scored(left=[8.0, 7.0, 6.0, 5.0, 2.0, 3.0, 1.0, 0.0])
    kept = {count: keep_counts(graph, scores, {"left": count})["left"].tolist() for count in (2, 4, 5, 6)}
    assert kept == {2: [0, 5], 4: [0, 1, 2, 5], 5: [0, 1, 2, 3, 5], 6: [0, 1, 2, 3, 4, 5]}
    assert keep_width(graph, scores, 0.5)["left"].tolist() == kept[4]
    assert keep_width(graph, scores, 0.01)["left"].tolist() == kept[2]
    with pytest.raises(ValueError, match="group 'left': 1 units to keep of 8; 2 must stay, or a layer"):
        keep_counts(graph, scores, {"left": 1})


@pytest.mark.slow
@given(random_networks(), st.integers(0, 2**31), st.floats(0.01, 1))
@properties
def test_a_width_empties_no_layer_and_is_the_best_of_each_group_where_that_does_not(drawn, seed, multiplier):
    model, shape = drawn
    graph = channel_graph(model, shape)
    scores = random_scores(graph, seed)
    plain = {}
    for name, values in scores.values.items():
        ranked = sorted(range(len(values)), key=lambda unit: -float(values[unit]))
        plain[name] = sorted(ranked[: max(1, int(len(values) * multiplier + 1e-9))])
    kept = keep_width(graph, scores, multiplier)
    units_to_keep(graph, kept)
    try:
        units_to_keep(graph, {name: torch.tensor(units) for name, units in plain.items()})
    except ValueError:
        return
    assert {name: units.tolist() for name, units in kept.items()} == plain


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


@pytest.mark.slow
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


def test_a_rate_is_not_rounded_off_by_binary_floats():
    graph = groups_of(a=100)
    assert len(remove_rate(graph, range(100), 0.29)["a"]) == 71


def test_a_rate_that_cannot_be_is_an_error():
    _, graph = chain()
    order = global_order(graph, random_scores(graph, 0))
    with pytest.raises(ValueError, match=r"rate 0.9 asks for 12 of 14 units; 11 can go"):
        remove_rate(graph, order, 0.9)
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"rate is {rate}; from 0 to below 1"):
            remove_rate(graph, order, rate)


@pytest.mark.slow
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
