"""What happens to channels in operations that move entries: views, permutations, concatenation, splitting.

Each public function here is a rule. It is called with the trace that takes ties and pins, the operation's node in the
`torch.fx` graph, the model without data, and the operation's arguments with `Channels` in place of activations. It
returns what stands for the operation's result.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.pruning.channels import Channels, concatenate, stored, varies, varying_dims
from compression.pruning.record import (
    Arguments,
    NotUnderstoodError,
    Trace,
    argument,
    as_channels,
    first_channels,
    operation_name,
    run_on_meta,
)


def move(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Move entries whatever the sizes are: the operation itself is run on the channels."""
    first_channels(arguments)
    return Channels(_run_on_ids(node, shadow, arguments))


def reshape(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Lay entries out anew: channels can go along the one dimension whose size isn't written in the code."""
    out: Any = run_on_meta(node, shadow, arguments)
    ids = first_channels(arguments).ids.reshape(out.shape)
    moved = varying_dims(ids)
    free = [dim for dim in moved if dim not in _written_dims(node, shadow, out.ndim)]
    if len(free) == 1:
        into.tie_slices(ids, free[0])
    elif moved:
        into.pin(ids, f"{operation_name(node, shadow)!r} has their number written in the code")
    return Channels(ids)


def _written_dims(node: fx.Node, shadow: nn.Module, ndim: int) -> set[int]:
    """Return the dimensions of a reshape's result whose size is a number in the code."""
    dim, sizes = _first_dim_and_sizes(node, shadow)
    start = dim % (ndim - len(sizes) + 1)
    return {start + place for place, size in enumerate(sizes) if isinstance(size, int) and size != -1}


def _first_dim_and_sizes(node: fx.Node, shadow: nn.Module) -> tuple[int, tuple[Any, ...]]:
    """Return the dimension that a reshape starts at, and the sizes that the code has, or computes in the graph."""
    given: Any = (node.args, node.kwargs)
    name = operation_name(node, shadow)
    if name in {"flatten", "Flatten"}:
        return 0, ()
    if name == "Unflatten":
        layer: Any = shadow.get_submodule(str(node.target))
        return layer.dim, tuple(layer.unflattened_size)
    if name == "unflatten":
        dim: Any = argument(given, 1, "dim", None)
        sizes: Any = argument(given, 2, "sizes", None)
        return dim, tuple(sizes) if isinstance(sizes, tuple | list) else ()
    first = argument(given, 1, "shape", node.kwargs.get("size"))
    return 0, tuple(first) if isinstance(first, tuple | list) else node.args[1:]


def shuffle(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Shuffle channels: the same place in each group goes, so that groups stay of one size."""
    ids = first_channels(arguments).ids
    groups: Any = argument(arguments, 1, "groups", None)
    if node.op == "call_module":
        groups = shadow.get_submodule(str(node.target)).groups
    into.tie_slices(ids.reshape(len(ids), groups, -1, *ids.shape[2:]), 2)
    return Channels(_run_on_ids(node, shadow, arguments))


def to_space(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Shuffle pixels: all channels that become one channel's pixels hang together."""
    first_channels(arguments)
    ids = _run_on_ids(node, shadow, arguments)
    into.tie_slices(ids, 1)
    return Channels(ids)


def cat(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Concatenate; along another dimension than the channels', channels that come to lie side by side hang together."""
    tensors: Any = argument(arguments, 0, "tensors", None)
    named = arguments[1].get("axis", 0)
    dim = argument(arguments, 1, "dim", named)
    if not isinstance(tensors, tuple | list) or not isinstance(dim, int):
        raise NotUnderstoodError("'cat' has arguments of another kind than a list and a number")
    parts = [as_channels(into, tensor).ids for tensor in tensors]
    dim %= parts[0].ndim
    for other in {axis for part in parts for axis in varying_dims(part)} - {dim}:
        first = into.tie_slices(parts[0], other)
        for part in parts[1:]:
            into.tie(first, into.tie_slices(part, other))
    return Channels(concatenate(parts, dim))


def chunk(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Split into equal pieces: the same place in each goes. Pieces whose size is written in the code stay whole."""
    ids, dim = first_channels(arguments).ids, argument(arguments, 2, "dim", 0)
    if not isinstance(dim, int):
        raise NotUnderstoodError(f"{operation_name(node)!r} has no number for its dimension")
    dim %= ids.ndim
    pieces = _run_on_ids(node, shadow, arguments)
    if varies(ids, dim):
        if len({piece.shape[dim] for piece in pieces}) > 1 or _has_written_size(node):
            into.pin(ids, f"{operation_name(node)!r} has sizes that don't follow their number")
        for piece in pieces[1:]:
            if piece.shape == pieces[0].shape:
                into.tie(stored(pieces[0]), stored(piece))
    return tuple(Channels(piece) for piece in pieces)


def _has_written_size(node: fx.Node) -> bool:
    """Tell whether the size of the pieces, or where they begin, is in the code; their number doesn't count."""
    named = [value for key, value in node.kwargs.items() if key not in {"tensor", "input", "dim"}]
    (size,) = node.args[1:2] or named
    if operation_name(node) == "tensor_split":
        return not isinstance(size, int | fx.Node)
    return operation_name(node) == "split" and not isinstance(size, fx.Node)


def item(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Take an entry of a list, or index a tensor by numbers and slices of dimensions without channels."""
    container: Any
    index: Any
    container, index = arguments[0]
    if not isinstance(container, Channels):
        return container[index]
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Channels | Tensor | list) for part in parts):
        raise NotUnderstoodError("they are indexed by a tensor")
    ids = container.ids
    places = [part for part in parts if part is not None]
    if Ellipsis in places:
        at = places.index(Ellipsis)
        places[at : at + 1] = [slice(None)] * (ids.ndim - len(places) + 1)
    if any(place != slice(None) and varies(ids, dim) for dim, place in enumerate(places)):
        into.pin(ids, "they are indexed by their number")
    return Channels(ids[index])


@torch.no_grad()
def _run_on_ids(node: fx.Node, shadow: nn.Module, arguments: Arguments) -> Any:
    args = tuple(value.ids if isinstance(value, Channels) else value for value in arguments[0])
    kwargs = {name: value.ids if isinstance(value, Channels) else value for name, value in arguments[1].items()}
    function: Any = node.target
    if node.op == "call_module":
        function = shadow.get_submodule(str(node.target))
    elif node.op == "call_method":
        return operator.methodcaller(function, *args[1:], **kwargs)(args[0])
    return function(*args, **kwargs)
