"""Which units go, and how many: by width, by rate, or until a budget of parameters, bytes or MACs is met."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice

import torch
from torch import Tensor, nn

from compression.pruning.criteria import Scores
from compression.pruning.cut import Selection, check_fit, cut_channels
from compression.pruning.graph import ChannelGraph
from compression.pruning.share import share_of
from compression.pruning.tracing import without_data

Cost = Callable[[nn.Module], int]
"""What a model costs; is given one without data, on the meta device. Fewer channels must never cost more."""


def keep_counts(graph: ChannelGraph, scores: Scores, counts: Mapping[str, int]) -> Selection:
    """Select a given number of units in each group, those of highest score; of equal scores the first.

    A unit without which a layer would have no channel stays before others of higher score.

    Args:
        graph: The graph of whose groups units are selected.
        scores: The scores of its units.
        counts: How many units stay, by name of the group.

    Raises:
        ValueError: If a group has no scores, or a count is out of bounds; the message names the group.
    """
    selection = _keep(graph, scores, counts)
    for name, kept in selection.items():
        if len(kept) > counts[name]:
            raise ValueError(
                f"group {name!r}: {counts[name]} units to keep of {len(scores.values[name])}; "
                f"{len(kept)} must stay, or a layer would have no channel"
            )
    return selection


def keep_width(graph: ChannelGraph, scores: Scores, multiplier: float) -> Selection:
    """Select the share `multiplier` of each scored group's units, rounded down, but at least one: the highest scores.

    More stay only where a layer would have no channel otherwise, as when one of two that are concatenated loses all.

    Raises:
        ValueError: If the multiplier is not above 0 and at most 1, or the scores are of another graph.
    """
    if not 0 < multiplier <= 1:
        raise ValueError(f"multiplier is {multiplier}; above 0 and at most 1 is possible")
    counts = {name: max(1, share_of(len(units), multiplier)) for name, units in scores.values.items()}
    return _keep(graph, scores, counts)


def global_order(graph: ChannelGraph, scores: Scores) -> list[int]:
    """Order all units that can go, lowest score first, whatever their group; of equal scores the last unit first.

    A unit without which a layer would have no channel is left out.
    """
    ranked = [(score, -unit) for unit, score in _scored_units(graph, scores)]
    can_go = _removal(graph)
    return [-unit for _, unit in sorted(ranked) if can_go(-unit)]


def layerwise_order(graph: ChannelGraph, scores: Scores) -> list[int]:
    """Order all units that can go, so that every part of the order takes about the same share of each group.

    Within a group the lowest score goes first, of equal scores the last unit. A unit without which a layer would have
    no channel is left out.
    """
    ranked = []
    for group in graph.groups:
        if group.name in scores.values:
            best_first = torch.sort(scores.values[group.name], descending=True, stable=True).indices.tolist()
            share = [(place + 1) / len(best_first) for place in range(len(best_first))]
            ranked += list(zip(share, (group.units[unit] for unit in reversed(best_first)), strict=True))
    can_go = _removal(graph)
    return [unit for _, unit in sorted(ranked) if can_go(unit)]


def remove_rate(graph: ChannelGraph, order: Sequence[int], rate: float) -> Selection:
    """Remove a share of all the graph's units: the first of an order, their number rounded down.

    Raises:
        ValueError: If the rate is not in [0, 1), or asks for more units than can go.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate is {rate}; from 0 to below 1 is possible")
    count = share_of(graph.unit_count, rate)
    if count > len(order):
        raise ValueError(f"rate {rate} asks for {count} of {graph.unit_count} units; {len(order)} can go")
    return _all_but(graph, order[:count])


def remove_until(model: nn.Module, graph: ChannelGraph, order: Sequence[int], cost: Cost, budget: int) -> Selection:
    """Remove units in order until the cut model costs at most the budget, and not one more.

    For parameters the cost is `compression.cost.parameter_count`, for bytes `state_bytes`, for multiply-accumulates
    `lambda model: multiply_accumulates(model, input_shape)`.

    Args:
        model: The model that the graph was made of; stays as it is.
        graph: The channel graph of this model.
        order: Units to remove, the first first.
        cost: Measures what is bounded.
        budget: The largest cost allowed.

    Raises:
        ValueError: If the budget can't be met, the message tells the least cost; or the graph doesn't fit.
    """
    check_fit(model, graph)

    def cost_without(count: int) -> int:
        cut = without_data(model)
        cut_channels(cut, graph, _flags(graph, order[:count]))
        return cost(cut)

    least = cost_without(len(order))
    if least > budget:
        raise ValueError(f"budget {budget} can't be met: without all {len(order)} units that can go, {least} are left")
    # Cost falls along the order, so that the first count within the budget is found by bisection.
    count = bisect_left(range(len(order)), True, key=lambda count: cost_without(count) <= budget)
    return _all_but(graph, order[:count])


def state_bytes(model: nn.Module) -> int:
    """Count the bytes of all parameters and buffers, each in its own data type; what layers share counts once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in chain(model.parameters(), model.buffers()))


def _scored_units(graph: ChannelGraph, scores: Scores) -> list[tuple[int, float]]:
    groups = [group for group in graph.groups if group.name in scores.values]
    return [pair for group in groups for pair in zip(group.units, scores.values[group.name].tolist(), strict=True)]


def _keep(graph: ChannelGraph, scores: Scores, counts: Mapping[str, int]) -> Selection:
    """Select as `keep_counts`, but more where a layer would have no channel."""
    groups = {group.name: group.units for group in graph.groups}
    can_go = _removal(graph)
    selection = {}
    for name, count in counts.items():
        if name not in scores.values or name not in groups:
            raise ValueError(f"group {name!r}: {scores.unscored.get(name, 'the graph has no such group')}")
        units, values = groups[name], scores.values[name]
        if len(values) != len(units):
            raise ValueError(f"group {name!r}: {len(values)} scores for {len(units)} units")
        if not 1 <= count <= len(units):
            raise ValueError(
                f"group {name!r}: {count} units to keep of {len(units)}; from 1 to {len(units)} is possible"
            )
        worst_first = torch.sort(values, descending=True, stable=True).indices.flip(0).tolist()
        removable = (place for place in worst_first if can_go(units[place]))
        removed = set(islice(removable, len(units) - count))
        selection[name] = torch.tensor([place for place in range(len(units)) if place not in removed])
    return selection


def _removal(graph: ChannelGraph) -> Callable[[int], bool]:
    """Return a function that takes units away one by one.

    It tells of each unit whether it went; it stays where a layer would be left without a channel.
    """
    sides = [Counter(side.tolist()) for layer in graph.layers.values() for side in (layer.inputs, layer.outputs)]
    left = [side.total() for side in sides]
    of_unit: dict[int, list[int]] = {}
    for place, side in enumerate(sides):
        for unit in side:
            of_unit.setdefault(unit, []).append(place)

    def remove(unit: int) -> bool:
        places = of_unit.get(unit, [])
        if any(left[place] == sides[place][unit] for place in places):
            return False
        for place in places:
            left[place] -= sides[place][unit]
        return True

    return remove


def _flags(graph: ChannelGraph, removed: Sequence[int]) -> Tensor:
    keep = torch.ones(graph.unit_count + 1, dtype=torch.bool)
    keep[list(removed)] = False
    return keep


def _all_but(graph: ChannelGraph, removed: Sequence[int]) -> Selection:
    keep = _flags(graph, removed)
    flags = {group.name: keep[group.units.start : group.units.stop] for group in graph.groups}
    return {name: kept.nonzero().flatten() for name, kept in flags.items() if not kept.all()}
