"""A model traced with channel numbers in place of activations: which channels meet where.

The model's `torch.fx` graph is walked once in training and once in evaluation mode. Layers that mix channels make new
ones; operations that move entries (`view`, `permute`, `cat`, `chunk`) move the numbers; where two tensors are added
or multiplied, channels that meet are tied; what isn't understood pins the channels that it sees.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten

from compression.layers import known_layers
from compression.layers.channel_order import ChannelOrder
from compression.pruning.channels import Channels, along
from compression.pruning.record import (
    Arguments,
    Call,
    NotUnderstoodError,
    Trace,
    first_channels,
    is_floating,
    operation_name,
    run_on_meta,
)

Rule = Callable[[Trace, fx.Node, nn.Module, Arguments], object]


def trace(model: nn.Module, input_shape: tuple[int, ...], rules: Mapping[object, Rule], into: Trace) -> Trace:
    """Follow the channels of one input through the model's graphs in training and in evaluation mode.

    Args:
        model: Stays as it is.
        input_shape: Shape of one input, without the batch.
        rules: What functions and tensor methods do to channels, by function or name; others are not understood.
        into: Records what is met; its `outputs` and `free` are used where they hold a name.

    Raises:
        ValueError: If `torch.fx` can't trace the model, or it can't take such an input.
    """
    shadow = without_data(model).float()
    for training in (True, False):
        _follow(_graph(shadow.train(training)), shadow.eval(), input_shape, rules, into)
    return into


def without_data(model: nn.Module) -> nn.Module:
    """Return a copy on the meta device.

    No data is copied but that of a ChannelOrder, which tells what becomes of channels.
    """
    memo: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    orders = (layer.order for layer in model.modules() if isinstance(layer, ChannelOrder))
    memo |= {id(order): order.cpu() for order in orders if not order.is_meta}
    return copy.deepcopy(model, memo)


class _LayerTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return known_layers.is_known(m) or super().is_leaf_module(m, module_qualified_name)


def _graph(model: nn.Module) -> fx.Graph:
    try:
        return _LayerTracer().trace(model)
    except Exception as error:
        # Tracing runs the model's own code, which may raise anything.
        raise ValueError(f"torch.fx can't trace the model {type(model).__name__}: {error}") from error


def _follow(
    graph: fx.Graph, shadow: nn.Module, input_shape: tuple[int, ...], rules: Mapping[object, Rule], into: Trace
) -> None:
    values: dict[fx.Node, object] = {}
    given = False
    for node in graph.nodes:
        # Two inputs, so that a batch is never taken for a dimension of size 1.
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)  # type: ignore[arg-type]
        with into.at(node):
            if node.op == "placeholder":
                if given and not args:
                    raise TypeError("it is a second input, and the model must run on one")
                values[node] = args[0] if given else into.fixed((2, *input_shape), "it is the model's input")
                given = True
            elif node.op == "output":
                for leaf in tree_flatten(args)[0]:
                    if isinstance(leaf, Channels):
                        into.pin(leaf.ids, "it is the model's output")
            elif node.op == "get_attr":
                values[node] = _attribute(into, node, shadow)
            else:
                values[node] = _operation(into, node, shadow, (args, kwargs), rules)


def _attribute(into: Trace, node: fx.Node, shadow: nn.Module) -> object:
    name = str(node.target)
    owner, _, attribute = name.rpartition(".")
    module = shadow.get_submodule(owner)
    value = getattr(module, attribute)
    if not isinstance(value, Tensor):
        return value
    known = known_layers.is_known(module)
    if known:
        into.pinned_layers[owner] = f"the model uses {name!r} outside its layer"
    if not is_floating(value):
        return value.to("meta")
    if known:
        return into.fixed(tuple(value.shape), into.pinned_layers[owner])
    if attribute not in {**module._parameters, **module._buffers}:
        within = next(reversed(node.meta.get("nn_module_stack", {})), "")
        return into.fixed(tuple(value.shape), f"a constant has fixed channels: module {within!r} holds or computes it")
    if attribute in module._non_persistent_buffers_set:
        return into.fixed(tuple(value.shape), f"{name!r} is in no state dict, from which a cut one could come back")
    return Channels(into.numbers(into.free, name, tuple(value.shape)))


def _operation(
    into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments, rules: Mapping[object, Rule]
) -> object:
    if not any(isinstance(leaf, Channels) for leaf in tree_flatten(arguments)[0]):
        return run_on_meta(node, shadow, arguments)
    try:
        return _rule(node, shadow, rules)(into, node, shadow, arguments)
    except NotUnderstoodError as error:
        if node.op == "call_module":
            into.pinned_layers.setdefault(str(node.target), str(error))
        return into.refuse(arguments, node, shadow, str(error))


def _rule(node: fx.Node, shadow: nn.Module, rules: Mapping[object, Rule]) -> Rule:
    keys: list[object] = [node.target, f"{getattr(node.target, '__module__', '')}.{operation_name(node)}"]
    if node.op == "call_module":
        layer = shadow.get_submodule(str(node.target))
        if known_layers.is_known(layer):
            return _layer
        keys = [type(layer)]
    elif isinstance(node.target, type) and issubclass(node.target, tuple):
        return _collect
    found = [rules[key] for key in keys if key in rules]
    if not found:
        raise NotUnderstoodError(f"{operation_name(node, shadow)!r} may mix them")
    return found[0]


def _collect(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Make a named tuple of activations, as models with several heads return."""
    assert callable(node.target)
    return node.target(*arguments[0], **arguments[1])


def _layer(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    name, value = str(node.target), first_channels(arguments)
    layer = shadow.get_submodule(name)
    if sum(isinstance(leaf, Channels) for leaf in tree_flatten(arguments)[0]) > 1:
        raise NotUnderstoodError(f"{operation_name(node, shadow)!r} takes more than one activation")
    dim = known_layers.channel_dim(layer, tuple(value.ids.shape))
    if dim is None:
        raise NotUnderstoodError(f"{operation_name(node, shadow)!r} normalizes dimensions that can't be told")
    shape = _shape_out(node, shadow, arguments)
    if not known_layers.makes_channels(layer) and shape != tuple(value.ids.shape):
        raise NotUnderstoodError(
            f"{operation_name(node, shadow)!r} gives something else than a tensor of the same shape"
        )
    inputs = outputs = into.tie_slices(value.ids, dim)
    if isinstance(layer, ChannelOrder):
        outputs = inputs[layer.order.cpu()]
    elif known_layers.makes_channels(layer):
        outputs = into.numbers(into.outputs, name, (shape[dim],))
    into.calls.append(Call(name, inputs, outputs, dim, tuple(value.ids.shape)))
    return value if outputs is inputs else along(outputs, shape, dim)


def _shape_out(node: fx.Node, shadow: nn.Module, arguments: Arguments) -> tuple[int, ...]:
    """Return the shape of a layer's output; () if that is no tensor."""
    shape, given = tuple(first_channels(arguments).ids.shape), len(arguments[0]) + len(arguments[1])
    if given == 1 and known_layers.is_plain_batch_norm(shadow.get_submodule(str(node.target)), shape):
        # Torch computes these in Python where there is no data: two fifths of the time of a trace.
        return shape
    result = run_on_meta(node, shadow, arguments)
    return tuple(result.shape) if isinstance(result, Tensor) else ()
