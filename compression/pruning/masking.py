"""Channels masked in a model that keeps its shape, to see or to train what a cut would leave."""

import copy

import torch
from torch import nn

from compression.pruning import layers
from compression.pruning.cut import Selection, check_fit, units_to_keep
from compression.pruning.graph import ChannelGraph
from compression.pruning.masked_norm import MaskedNorm


def mask(model: nn.Module, graph: ChannelGraph, selection: Selection) -> nn.Module:
    """A copy of the model in which channels that aren't selected contribute exactly nothing downstream.

    All weights, biases, gammas and betas that `prune` cuts are zero, among them those that read the channel where its
    group ends; so the outputs are those of the cut model, whatever lies between: a BatchNorm's beta, a sigmoid. Layers
    that average over channels (LayerNorm, GroupNorm of one group) become a `MaskedNorm`, as the cut one averages less.

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
        layer, kept = masked.get_submodule(name), keep[channels.inputs]
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm) and layers.averages_channels(layer) and not kept.all():
            norm = MaskedNorm.of(layer, kept, channels.dim - len(channels.shape))
            for alias in [key for key, module in masked.named_modules(remove_duplicate=False) if module is layer]:
                masked.set_submodule(alias, norm)
    return masked
