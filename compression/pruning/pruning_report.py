"""What a pruning takes away, what it leaves whole, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from compression.pruning.criteria import Scores
from compression.pruning.cut import Selection
from compression.pruning.graph import ChannelGraph, Unprunable


@dataclass(frozen=True)
class PrunedGroup:
    """A group that loses channels.

    Attributes:
        name: The group's.
        layers: Those that make its channels.
        units: The smallest sets of channels that can go, before.
        kept: Those that stay.
    """

    name: str
    layers: tuple[str, ...]
    units: int
    kept: int


@dataclass(frozen=True)
class PruningReport:
    """Every layer that makes channels is in one of these, or in two if only some of its channels can go.

    Attributes:
        pruned: Groups that lose channels.
        whole: Groups that could but don't, by name, with the reason.
        unprunable: Layers of which output channels must stay, with the reasons.
    """

    pruned: tuple[PrunedGroup, ...]
    whole: Mapping[str, str]
    unprunable: tuple[Unprunable, ...]

    def __str__(self) -> str:
        rows = [f"{', '.join(group.layers)}: {group.kept} of {group.units} units kept" for group in self.pruned]
        rows += [f"{name}: whole, {reason}" for name, reason in self.whole.items()]
        rows += [f"{layer.layer}: {layer.channels} channels stay, {layer.reason}" for layer in self.unprunable]
        return "\n".join(rows)


def report(graph: ChannelGraph, scores: Scores, selection: Selection) -> PruningReport:
    """Tell what a selection does to each layer of the graph's model.

    Args:
        graph: The channel graph of the model.
        scores: The scores by which units were selected; they tell why a group has none.
        selection: The units that stay.
    """
    kept = {group.name: len(selection.get(group.name, group.units)) for group in graph.groups}
    pruned = tuple(
        PrunedGroup(group.name, group.layers, len(group.units), kept[group.name])
        for group in graph.groups
        if kept[group.name] < len(group.units)
    )
    whole = {
        group.name: scores.unscored.get(group.name, "all its units are selected")
        for group in graph.groups
        if kept[group.name] == len(group.units)
    }
    return PruningReport(pruned, whole, graph.unprunable)
