"""Channels cut out of a model, whose tensors get smaller.

small = prune(model, graph, {"layer1.0.conv1": torch.tensor([0, 2, 5])})    # of this group three units stay
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compression.layers import known_layers
from compression.layers.masked_layers import is_masked
from compression.pruning.graph import ChannelGraph
from compression.pruning.record import Trace
from compression.pruning.rules import standard_rules
from compression.pruning.tracing import trace

Selection = Mapping[str, Tensor]
"""By name of a group, the units of it that stay: ascending int64 positions. A group without an entry stays whole."""


def prune(model: nn.Module, graph: ChannelGraph, selection: Selection) -> nn.Module:
    """Return a copy of the model without the channels that aren't selected.

    Weights, biases and statistics of kept channels are the original's, in their order, with its dtype, memory format,
    `requires_grad` and training flags. The copy is traced again: each of its layers is made sure to get the channels
    that it got before, less the cut ones.

    Args:
        model: Stays as it is.
        graph: The channel graph of this model.
        selection: The units that stay.

    Raises:
        ValueError: If the selection or graph doesn't fit the model, a layer is masked, or the model's code can't run
            with fewer channels; the message names the layer or operation.
    """
    keep = units_to_keep(graph, selection)
    check_fit(model, graph)
    for name, layer in model.named_modules():
        if is_masked(layer):
            raise ValueError(f"layer {name!r} is masked; load the state dict into the plain model, and prune that")
    cut = copy.deepcopy(model)
    cut_channels(cut, graph, keep)
    _verify(cut, graph, keep)
    return cut


def units_to_keep(graph: ChannelGraph, selection: Selection) -> Tensor:
    """Turn a selection into one flag for each unit of the graph.

    Returns:
        bool of shape (graph.unit_count + 1,); the last, found at index -1, stands for all that can't go.

    Raises:
        ValueError: If a name is no group's, indices don't fit, or a layer would be left without channels.
    """
    groups = {group.name: group for group in graph.groups}
    keep = torch.ones(graph.unit_count + 1, dtype=torch.bool)
    for name, index in selection.items():
        if name not in groups:
            raise ValueError(f"group {name!r}: the graph has no such group; it has {', '.join(groups) or 'none'}")
        units = groups[name].units
        _check_index(name, index, len(units))
        keep[units.start : units.stop] = False
        keep[units.start + index.cpu()] = True
    for name, channels in graph.layers.items():
        if not (keep[channels.inputs].any() and keep[channels.outputs].any()):
            raise ValueError(f"layer {name!r}: the selection leaves no channel; at least 1 is needed")
    return keep


def check_fit(model: nn.Module, graph: ChannelGraph) -> None:
    """Check that a graph was made of such a model.

    Raises:
        ValueError: If a layer is missing or has another size; the message names it.
    """
    for name in graph.layers:
        try:
            model.get_submodule(name)
        except AttributeError as error:
            raise ValueError(f"layer {name!r}: the model has no such layer, but its graph does") from error
    for name, axis in graph.layer_axes(model):
        size = _tensor(model, name).shape[axis.dim]
        if size != len(axis.units):
            raise ValueError(
                f"{name!r} has {size} entries in dimension {axis.dim}, and {len(axis.units)} in the graph; "
                "a graph is of the model as it was traced"
            )


def cut_channels(model: nn.Module, graph: ChannelGraph, keep: Tensor) -> None:
    """Cut in place what `prune` cuts in a copy, without its checks.

    Args:
        model: Changed.
        graph: The channel graph of this model.
        keep: Flags as `units_to_keep` makes them.
    """
    for name, axis in list(graph.layer_axes(model)):
        index = keep[axis.units].nonzero().flatten()
        if len(index) < len(axis.units):
            _replace(model, name, _index_in_layout(_tensor(model, name).detach(), axis.dim, index))
    for name, channels in graph.layers.items():
        known_layers.resize(model.get_submodule(name), keep[channels.inputs], keep[channels.outputs])


def _tensor(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(owner), attribute)
    return tensor


def _replace(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    before = _tensor(model, name)
    is_parameter = isinstance(before, nn.Parameter)
    new = nn.Parameter(tensor, before.requires_grad) if is_parameter else tensor
    setattr(model.get_submodule(owner), attribute, new)


def _index_in_layout(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    # Outermost dimension first; of equal strides, one of size 1 lies innermost, as in channels-last.
    strides, sizes = tensor.stride(), tensor.shape
    order = sorted(range(tensor.ndim), key=lambda axis: (-strides[axis], -sizes[axis]))
    cut = tensor.permute(order).index_select(order.index(dim), index.to(tensor.device)).contiguous()
    return cut.permute([order.index(axis) for axis in range(tensor.ndim)])


def _check_index(name: str, index: Tensor, units: int) -> None:
    values = index.tolist()
    if index.dtype != torch.int64 or index.ndim != 1 or not values:
        raise ValueError(
            f"group {name!r}: kept units are {index.dtype} of shape {tuple(index.shape)}; "
            "at least one index, torch.int64 and one-dimensional, is needed"
        )
    if values != sorted(set(values)) or values[0] < 0 or values[-1] >= units:
        raise ValueError(f"group {name!r}: kept units {values} must ascend without repeats, from 0 to {units - 1}")


def _verify(cut: nn.Module, graph: ChannelGraph, keep: Tensor) -> None:
    """Trace the cut model, and check that only channels meet that met in the original."""
    outputs = {name: channels.outputs[keep[channels.outputs]] for name, channels in graph.layers.items()}
    free = {}
    for name, axis in graph.free.items():
        view = [-1 if dim == axis.dim else 1 for dim in range(_tensor(cut, name).ndim)]
        free[name] = axis.units[keep[axis.units]].view(view).expand(_tensor(cut, name).shape)
    makers = {name: ids for name, ids in outputs.items() if known_layers.makes_channels(cut.get_submodule(name))}
    met = trace(cut, graph.input_shape, standard_rules(), Trace(makers, free, first_number=graph.unit_count))
    for tie in met.ties:
        if not torch.equal(*(_as_units(ids, graph) for ids in (tie.first, tie.second))):
            raise ValueError(f"operation {tie.node!r}: without the cut channels others would meet in it")
    for pin in met.pins:
        if (_as_units(pin.ids, graph) >= 0).any():
            raise ValueError(f"channels that were to be cut must stay: {pin.reason}")
    for call in met.calls:
        expected = graph.layers[call.layer].inputs
        if not torch.equal(_as_units(call.inputs, graph), expected[keep[expected]]):
            raise ValueError(f"layer {call.layer!r}: without the cut channels it would get others than before")


def _as_units(ids: Tensor, graph: ChannelGraph) -> Tensor:
    return torch.where((ids >= 0) & (ids < graph.unit_count), ids, -1)
