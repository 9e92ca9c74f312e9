"""Channels masked in a model that keeps its shape, to see or to train what a cut would leave."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from compression.pruning import layers
from compression.pruning.cut import Selection, check_fit, units_to_keep
from compression.pruning.graph import ChannelGraph
from compression.pruning.masked_norm import MaskedNorm, along


def mask(model: nn.Module, graph: ChannelGraph, selection: Selection) -> nn.Module:
    """A copy of the model in which channels that aren't selected contribute exactly nothing downstream.

    All weights, biases, gammas and betas that `prune` cuts are zero, among them those that read the channel where its
    group ends; so the outputs are those of the cut model, whatever lies between: a BatchNorm's beta, a sigmoid. Layers
    that average over channels (LayerNorm, GroupNorm of one group) become a `MaskedNorm`, as the cut one averages less.

    It also trains as the cut model does: a layer that reads a dropped channel gets zero in its place, by a hook on its
    module, so that no gradient reaches what was dropped. Under an optimizer that treats each number by itself (SGD,
    Adam; with momentum and weight decay) the zeros stay zero, and all else is what the cut model learns. Dropout and
    whatever else draws numbers by shape draws others in the two.

    Args:
        model: Stays as it is.
        graph: Of this model.
        selection: What stays.

    Raises:
        ValueError: If the selection or graph doesn't fit the model.
    """
    keep = units_to_keep(graph, selection)
    check_fit(model, graph)
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, axis in graph.layer_axes(masked):
            owner, _, attribute = name.rpartition(".")
            layer = masked.get_submodule(owner)
            if name not in graph.free and attribute in dict(layer.named_parameters(recurse=False)):
                dropped = (~keep[axis.units]).nonzero().flatten()
                parameter = layer.get_parameter(attribute)
                parameter.index_fill_(axis.dim, dropped.to(parameter.device), 0)
    for name, channels in graph.layers.items():
        layer, kept, dim = masked.get_submodule(name), keep[channels.inputs], channels.dim - len(channels.shape)
        if kept.all():
            continue
        if layers.makes_channels(layer):
            InputMask(kept, dim).attach(layer)
        elif isinstance(layer, nn.LayerNorm | nn.GroupNorm) and layers.averages_channels(layer):
            norm = MaskedNorm.of(layer, kept, dim)
            for alias in [key for key, module in masked.named_modules(remove_duplicate=False) if module is layer]:
                masked.set_submodule(alias, norm)
    return masked


@dataclass(frozen=True)
class InputMask:
    """A hook that puts zero in place of a layer's inputs from dropped channels, and of the gradients to them.

    Args:
        kept: bool of shape (channels,): those that pass.
        dim: Dimension of the inputs along which channels lie, from the end.
    """

    kept: Tensor
    dim: int

    def attach(self, layer: nn.Module) -> None:
        """Lets a layer see its inputs through the mask."""
        layer.register_forward_pre_hook(self, with_kwargs=True)

    @staticmethod
    def of(layer: nn.Module) -> "InputMask | None":
        """The mask that was attached to a layer, if one was."""
        return next((hook for hook in layer._forward_pre_hooks.values() if isinstance(hook, InputMask)), None)

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The layer's arguments with zeros in the dropped channels of each tensor."""
        return tree_map(self._hold, args), tree_map(self._hold, kwargs)

    def _hold(self, leaf: object) -> object:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.masked_fill(~along(self.kept.to(leaf.device), leaf, self.dim), 0)
