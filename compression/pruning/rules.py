"""What functions, tensor methods and layers without channels of their own do to channels."""

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten

from compression.pruning import layout
from compression.pruning.channels import Channels, stored, varies, varying_dims
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
from compression.pruning.tracing import Rule

_ELEMENTWISE = """abs add add_ alpha_dropout bfloat16 celu celu_ clamp clamp_ clip clone contiguous cos cpu cuda detach
div div_ divide double dropout dropout1d dropout2d dropout3d elu elu_ exp feature_alpha_dropout float gelu half
hardsigmoid hardswish hardtanh hardtanh_ iadd imul isub itruediv leaky_relu leaky_relu_ lerp log logsigmoid maximum
minimum mish mul mul_ multiply neg pow reciprocal relu relu6 relu_ rsqrt rsub selu selu_ sigmoid sigmoid_ silu sin
softplus softsign sqrt square sub sub_ subtract tanh tanh_ threshold to true_divide truediv type where"""
_ELEMENTWISE_LAYERS = """AlphaDropout CELU Dropout Dropout1d Dropout2d Dropout3d ELU FeatureAlphaDropout GELU Hardshrink
Hardsigmoid Hardswish Hardtanh Identity LeakyReLU LogSigmoid Mish RReLU ReLU ReLU6 SELU SiLU Sigmoid Softplus
Softshrink Softsign Tanh Tanhshrink Threshold"""
_SPATIAL = """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d interpolate lp_pool1d lp_pool2d max_pool1d max_pool2d max_pool3d
pad upsample"""
_SPATIAL_LAYERS = """AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d ConstantPad1d ConstantPad2d ConstantPad3d LPPool1d LPPool2d MaxPool1d
MaxPool2d MaxPool3d ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d
ReplicationPad3d Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d"""


@cache
def standard_rules() -> Mapping[object, Rule]:
    """Return the rules by function (or its full name), tensor method's name, or type of a layer without channels."""
    by_name: list[tuple[str, Rule]] = [
        (_ELEMENTWISE, _elementwise),
        (_SPATIAL, _spatial),
        ("mean sum amax amin std var", _reduce),
        ("softmax log_softmax", _softmax),
        ("permute transpose t movedim moveaxis swapaxes squeeze unsqueeze pixel_unshuffle", layout.move),
        ("reshape view flatten unflatten", layout.reshape),
        ("cat concat concatenate", layout.cat),
        ("chunk split tensor_split", layout.chunk),
        ("getitem", layout.item),
        ("getattr size dim ndimension numel", _shape),
        ("channel_shuffle", layout.shuffle),
        ("pixel_shuffle", layout.to_space),
    ]
    by_type: list[tuple[str, Rule]] = [
        (_ELEMENTWISE_LAYERS, _elementwise),
        (_SPATIAL_LAYERS, _spatial),
        ("Softmax LogSoftmax", _softmax),
        ("Flatten Unflatten", layout.reshape),
        ("ChannelShuffle", layout.shuffle),
        ("PixelShuffle", layout.to_space),
        ("PixelUnshuffle", layout.move),
    ]
    rules: dict[object, Rule] = {
        getattr: _shape,
        "torchvision.ops.stochastic_depth.stochastic_depth": _stochastic_depth,
    }
    for names, rule in by_name:
        for name in names.split():
            found = (getattr(space, name, None) for space in (torch, F, operator))
            rules.update({function: rule for function in found if callable(function)})
            rules[name] = rule
    rules.update({getattr(nn, name): rule for names, rule in by_type for name in names.split()})
    return MappingProxyType(rules)


def _elementwise(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Tie entries that meet; one that is spread over several channels, as a map of positions is, stays."""
    operands = [leaf for leaf in tree_flatten(arguments)[0] if isinstance(leaf, Channels | Tensor)]
    result = as_channels(into, operands[0])
    for operand in operands[1:]:
        result = _meet(into, result, as_channels(into, operand))
    return result


def _meet(into: Trace, first: Channels, second: Channels) -> Channels:
    shape = np.broadcast_shapes(first.ids.shape, second.ids.shape)
    one, other = (value.ids[(None,) * (len(shape) - value.ids.ndim)] for value in (first, second))
    first_spreads, second_spreads = _spreads(one, other), _spreads(other, one)
    if first_spreads:
        into.pin(one, "it is spread over the channels of another")
    if second_spreads:
        into.pin(other, "it is spread over the channels of another")
    if first_spreads and second_spreads:
        return into.fixed(shape, "channels were multiplied out")
    if not (first_spreads or second_spreads):
        into.tie(stored(one), stored(other))
    return Channels((other if first_spreads else one).expand(shape))


def _spreads(small: Tensor, large: Tensor) -> bool:
    """Tell whether broadcasting repeats one entry of `small` over different channels of `large`."""
    return any(small.shape[dim] == 1 and varies(large, dim) for dim in range(large.ndim))


def _spatial(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Pool, pad or resize each channel alone, unless channels lie along a dimension that this runs over."""
    ids, out = first_channels(arguments).ids, run_on_meta(node, shadow, arguments)
    if not isinstance(out, Tensor) or out.ndim != ids.ndim:
        raise NotUnderstoodError(f"{operation_name(node, shadow)!r} gives more than one tensor of the same dimensions")
    if set(varying_dims(ids)) & _spatial_dims(node, shadow, arguments, ids.ndim):
        raise NotUnderstoodError(f"{operation_name(node, shadow)!r} runs over channels")
    for dim in range(ids.ndim):
        if out.shape[dim] != ids.shape[dim]:
            ids = ids.narrow(dim, 0, 1)
    return Channels(ids.expand(out.shape))


def _spatial_dims(node: fx.Node, shadow: nn.Module, arguments: Arguments, ndim: int) -> set[int]:
    """Return the dimensions that an operation runs over.

    The n of a name that ends in "nd" says that it is the last n; resizing takes all after the channels, `pad` those
    that it pads.
    """
    name = operation_name(node, shadow)
    sizes = argument(arguments, 1, "pad", None)
    if name == "pad" and isinstance(sizes, Sequence):
        return {ndim - 1 - place // 2 for place, size in enumerate(sizes) if size != 0}
    found = re.search(r"(\d)d$", name)
    return set(range(ndim - int(found[1]) if found else 2, ndim))


def _reduce(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Take means and sums over dimensions in which no two channels lie."""
    ids, out = first_channels(arguments).ids, run_on_meta(node, shadow, arguments)
    dims = argument(arguments, 1, "dim", None)
    # The second argument of `var` may be whether it is unbiased; then all dimensions are meant.
    whole = dims is None or isinstance(dims, bool)
    listed = range(ids.ndim) if whole else [dims] if isinstance(dims, int) else dims
    if not isinstance(out, Tensor) or not isinstance(listed, Iterable):
        raise NotUnderstoodError(f"{operation_name(node)!r} has arguments of another kind than numbers")
    reduced = {dim % ids.ndim for dim in listed}
    if any(varies(ids, dim) for dim in reduced):
        raise NotUnderstoodError(f"{operation_name(node)!r} runs over channels")
    for dim in reduced:
        ids = ids.narrow(dim, 0, 1)
    return Channels(ids.reshape(out.shape))


def _softmax(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    value = first_channels(arguments)
    dim = argument(arguments, 1, "dim", None)
    if node.op == "call_module":
        dim = getattr(shadow.get_submodule(str(node.target)), "dim", None)
    if not isinstance(dim, int) or varies(value.ids, dim % value.ids.ndim):
        raise NotUnderstoodError(f"{operation_name(node, shadow)!r} runs over channels")
    return value


def _shape(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Return sizes, data types and the like."""
    value = run_on_meta(node, shadow, arguments)
    if isinstance(value, Tensor):
        raise NotUnderstoodError(f"{node.args[1]!r} may mix them")
    return value


def _stochastic_depth(into: Trace, node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    return first_channels(arguments)
