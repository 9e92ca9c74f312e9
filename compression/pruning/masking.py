"""Channels masked in a model that keeps its shape, to see or to train what a cut would leave."""

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from compression.pruning import layers
from compression.pruning.cut import Selection, check_fit, units_to_keep
from compression.pruning.graph import ChannelGraph


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
            layer.register_forward_pre_hook(partial(_without_dropped, kept, dim), with_kwargs=True)
        elif isinstance(layer, nn.LayerNorm | nn.GroupNorm) and layers.averages_channels(layer):
            norm = MaskedNorm(layer, kept, dim)
            for alias in [key for key, module in masked.named_modules(remove_duplicate=False) if module is layer]:
                masked.set_submodule(alias, norm)
    return masked


class MaskedNorm(nn.Module):
    """A LayerNorm or one-group GroupNorm whose statistics leave channels out, which come out as zero.

    Args:
        norm: A LayerNorm over one dimension, or a GroupNorm; its parameters are taken over.
        kept: bool of shape (channels,): those that count.
        dim: Dimension of the input along which channels lie, from the end.
    """

    def __init__(self, norm: nn.LayerNorm | nn.GroupNorm, kept: Tensor, dim: int):
        super().__init__()
        self.kept: Tensor
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        self.register_buffer("kept", kept.to(next(norm.parameters(), kept).device))
        self.eps = norm.eps
        self.dim = dim
        self.over_positions = isinstance(norm, nn.GroupNorm)
        self.train(norm.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalizes: any shape with the channels in its dimension to the same shape."""
        kept = _along(self.kept, inputs, self.dim).to(inputs.dtype)
        dims = list(range(1, inputs.ndim)) if self.over_positions else [self.dim]
        count = kept.expand_as(inputs).sum(dims, keepdim=True)
        mean = (inputs * kept).sum(dims, keepdim=True) / count
        centred = (inputs - mean) * kept
        normal = centred * torch.rsqrt(centred.square().sum(dims, keepdim=True) / count + self.eps)
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        if weight is not None:
            normal = normal * _along(weight, inputs, self.dim)
        return normal if bias is None else normal + _along(bias, inputs, self.dim)


def _without_dropped(kept: Tensor, dim: int, layer: nn.Module, args: object, kwargs: object) -> tuple[object, object]:
    def hold(leaf: object) -> object:
        return leaf.masked_fill(~_along(kept.to(leaf.device), leaf, dim), 0) if isinstance(leaf, Tensor) else leaf

    return tree_map(hold, args), tree_map(hold, kwargs)


def _along(values: Tensor, inputs: Tensor, dim: int) -> Tensor:
    return values.view([-1 if place - inputs.ndim == dim else 1 for place in range(inputs.ndim)])
