"""Channels masked in a model that keeps its shapes, to see or to train what a cut would leave.

masked = mask(model, graph, selection)          # computes what prune(model, graph, selection) computes
train(masked)
model.load_state_dict(masked.state_dict())
small = prune(model, graph, selection)          # and what it computes now
"""

import copy
import math

import torch
from torch import Tensor, nn

from compression.layers import known_layers
from compression.layers.masked_layers import LayerMask, MaskedNorm
from compression.pruning.cut import Selection, check_fit, units_to_keep
from compression.pruning.graph import ChannelGraph, LayerChannels


def mask(model: nn.Module, graph: ChannelGraph, selection: Selection) -> nn.Module:
    """Return a copy of the model, of the same shapes, in which channels that aren't selected have no effect.

    All weights, biases, gammas and betas that `prune` cuts are zero, also those that read a channel where its group
    ends. So the outputs are those of the cut model whatever lies between, such as a BatchNorm's beta or a sigmoid.
    Layers that average over channels (LayerNorm, GroupNorm of one group) become a `MaskedNorm`, since the cut layer
    averages over fewer.

    It also trains as the cut model does: a layer with a dropped channel gets and gives zero in its place, by a
    `LayerMask`, so that no gradient reaches what was dropped. Under an optimizer that treats each number by itself
    (SGD, Adam; with momentum and weight decay) the zeros stay zero, and all else is what the cut model learns. Dropout
    and whatever else draws numbers by shape draws others in the two.

    The state dict has the model's own names and shapes. Loaded into the plain model, it is what a trained masked model
    leaves to `prune`.

    Args:
        model: Stays as it is. What is masked already stays so.
        graph: The channel graph of this model.
        selection: The units that stay.

    Raises:
        ValueError: If the selection or graph doesn't fit the model, masks together leave a norm no channel, or a
            subclass of LayerNorm computes something else.
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
        layer, inputs, outputs = masked.get_submodule(name), keep[channels.inputs], keep[channels.outputs]
        if inputs.all() and outputs.all():
            continue
        if known_layers.averages_channels(layer):
            norm = _masked_norm(name, layer, inputs, channels)
            for alias in [key for key, module in masked.named_modules(remove_duplicate=False) if module is layer]:
                masked.set_submodule(alias, norm)
        else:
            LayerMask(inputs, outputs, channels.dim_from_end).attach(layer)
    return masked


def _masked_norm(
    name: str, layer: nn.LayerNorm | nn.GroupNorm | MaskedNorm, kept: Tensor, channels: LayerChannels
) -> MaskedNorm:
    norm = MaskedNorm.of(layer, kept, channels.dim_from_end)
    if not norm.channels_left:
        raise ValueError(f"layer {name!r}: the model's mask and this one leave no channel; at least 1 is needed")
    if isinstance(layer, nn.LayerNorm) and type(layer) is not nn.LayerNorm:
        whole = MaskedNorm.of(layer, torch.ones_like(kept), channels.dim_from_end)
        like = next(layer.parameters(), torch.empty(0))
        inputs = torch.linspace(-1, 2, math.prod(channels.shape)).reshape(channels.shape).to(like)
        with torch.no_grad():
            if not torch.allclose(layer.forward(inputs), whole.forward(inputs), rtol=0.02, atol=0.02):
                raise ValueError(f"layer {name!r}: {type(layer).__name__} computes no LayerNorm; it can't be masked")
    return norm
