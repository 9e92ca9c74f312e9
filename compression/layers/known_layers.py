"""Layers whose channels are known: where they lie, which hang together, and how a layer gets smaller.

A channel of Conv2d(3, 4) is a slice of dimension 0 of its weight and of its bias where it goes out, and of dimension 1
of its weight where it comes in. Cut by one output and one input channel, it is a Conv2d(2, 3).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from compression.layers.channel_order import ChannelOrder
from compression.layers.masked_layers import MaskedNorm

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_KNOWN = (
    *_CONVOLUTIONS,
    *_TRANSPOSED,
    nn.Linear,
    *_BATCH_NORMS,
    *_INSTANCE_NORMS,
    nn.GroupNorm,
    nn.PReLU,
    ChannelOrder,
)
# A parametrized tensor is a property of a class of its own.
_COMPUTING = (
    *("forward", "_conv_forward", "_output_padding", "_check_input_dim", "_apply_instance_norm"),
    *("__call__", "__getattr__", "_call_impl", "weight", "bias", "running_mean", "running_var"),
)
_BATCH_NORM_DIMENSIONS: Mapping[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
}
# By name, as torchvision isn't imported for it.
_FROZEN_BATCH_NORM = "torchvision.ops.misc.FrozenBatchNorm2d"


@dataclass(frozen=True, eq=False)
class Axis:
    """A dimension of one of a layer's tensors, each index of which is a channel.

    Attributes:
        tensor: Name of the parameter or buffer in its layer.
        dim: The dimension.
        units: int64 of shape (size,): the unit that each index belongs to, -1 for one that stays.
        reads: Whether the layer reads the channels here, as a convolution in dimension 1 of its weight, over which it
            sums; else it makes or scales them.
    """

    tensor: str
    dim: int
    units: Tensor
    reads: bool = False


def is_known(layer: nn.Module) -> bool:
    """Tell whether a layer's channels can be followed and cut.

    A subclass may compute anything. So only subclasses of LayerNorm are known, and those that inherit a known class's
    computation unchanged.
    """
    kind = type(layer)
    frozen = f"{kind.__module__}.{kind.__qualname__}" == _FROZEN_BATCH_NORM
    return frozen or isinstance(layer, nn.LayerNorm) or computing_type(kind) in _KNOWN


def computing_type(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the known class whose computation a class inherits unchanged; else the class itself."""
    for base in kind.__mro__:
        if base in _KNOWN:
            same = all(getattr(kind, name, None) is getattr(base, name, None) for name in _COMPUTING)
            return base if same else kind
    return kind


def makes_channels(layer: nn.Module) -> bool:
    """Tell whether a layer's outputs are channels of its own making: convolutions and linear layers."""
    return isinstance(layer, _ConvNd | nn.Linear)


def is_plain_batch_norm(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether it is torch's own, without hooks, and takes inputs of this shape: its outputs have the same."""
    fits = len(shape) in _BATCH_NORM_DIMENSIONS.get(type(layer), ()) and channel_counts(layer) == (shape[1], shape[1])
    return fits and not (layer._forward_hooks or layer._forward_pre_hooks)


def channel_counts(layer: nn.Module) -> tuple[int, int] | None:
    """Return how many channels a known layer states to take and to return; None if it states none.

    A PReLU of one number states none.
    """
    if isinstance(layer, _ConvNd):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
        return None
    names = ("num_features", "num_channels", "num_parameters", "channels")
    counts = [int(vars(layer)[name]) for name in names if name in vars(layer)]
    return (counts[0], counts[0]) if counts else None


def channel_dim(layer: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Return the dimension of a layer's input along which channels lie; None if that can't be told.

    A subclass of LayerNorm may normalize another dimension than the last, as ConvNeXt's does: it is the one that has
    the size, if only one has.
    """
    if isinstance(layer, nn.LayerNorm):
        if len(layer.normalized_shape) != 1:
            return None
        if type(layer).forward is nn.LayerNorm.forward:
            return len(shape) - 1
        fitting = [dim for dim in range(1, len(shape)) if shape[dim] == layer.normalized_shape[0]]
        return fitting[0] if len(fitting) == 1 else None
    if isinstance(layer, ChannelOrder):
        return len(shape) - 3
    return len(shape) - 1 if isinstance(layer, nn.Linear) else 1


def averages_channels(layer: nn.Module) -> TypeGuard[nn.LayerNorm | nn.GroupNorm | MaskedNorm]:
    """Tell whether each channel's output depends on all channels, as in a LayerNorm.

    A masked layer of that kind must leave the dropped channels out of its statistics.
    """
    one_group = isinstance(layer, nn.GroupNorm) and layer.num_groups == 1
    return one_group or isinstance(layer, nn.LayerNorm | MaskedNorm)


def gives_up_groups(layer: nn.Module) -> bool:
    """Tell whether a grouped layer loses whole groups, inputs and outputs together, as a depthwise convolution.

    A grouped convolution can also lose the same position in each group; whichever leaves more choices is taken. Of a
    GroupNorm only whole groups can go, or the statistics of those that stay would change.
    """
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups > 1
    return isinstance(layer, _ConvNd) and layer.groups > 1 and layer.groups**2 >= layer.in_channels


def tied_rows(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> Iterator[Tensor]:
    """Yield matrices of channel ids; the channels in one row must go or stay together.

    Convolution(4, 4, groups=4) with inputs 0-3 and outputs 10-13 gives [[0, 10], [1, 11], [2, 12], [3, 13]].
    """
    if isinstance(layer, nn.GroupNorm):
        yield inputs.view(layer.num_groups, -1) if gives_up_groups(layer) else inputs.view(-1, 1)
    elif isinstance(layer, _ConvNd) and layer.groups > 1:
        groups_in, groups_out = inputs.view(layer.groups, -1), outputs.view(layer.groups, -1)
        if gives_up_groups(layer):
            yield torch.cat([groups_in, groups_out], 1)
        else:
            yield from (groups_in.T, groups_out.T)


def axes(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> Iterator[Axis]:
    """Yield the dimensions of a layer's tensors that shrink with its channels.

    Args:
        layer: A known one.
        inputs: int64 units of shape (input channels,).
        outputs: int64 units of shape (output channels,).
    """
    if not makes_channels(layer):
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(layer, name, None)
            if isinstance(tensor, Tensor) and len(tensor) == len(inputs):
                yield Axis(name, 0, inputs)
        return
    if layer.bias is not None:
        yield Axis("bias", 0, outputs)
    if isinstance(layer, _ConvTransposeNd):
        grouped = layer.groups > 1
        yield Axis("weight", 0, inputs, reads=not gives_up_groups(layer))
        if not (grouped and gives_up_groups(layer)):
            yield Axis("weight", 1, outputs[: len(outputs) // layer.groups])
        return
    yield Axis("weight", 0, outputs)
    if not gives_up_groups(layer):
        yield Axis("weight", 1, inputs[: len(inputs) // getattr(layer, "groups", 1)], reads=True)


def resize(layer: nn.Module, keep_in: Tensor, keep_out: Tensor) -> None:
    """Set the sizes that a layer states to those of its cut tensors.

    Args:
        layer: Changed in place.
        keep_in: bool of shape (input channels,): those that stay.
        keep_out: bool of shape (output channels,).
    """
    inputs, outputs = int(keep_in.sum()), int(keep_out.sum())
    if isinstance(layer, _ConvNd):
        layer.groups = _groups_left(keep_in, layer.groups)
        layer.in_channels, layer.out_channels = inputs, outputs
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
    elif isinstance(layer, _BatchNorm | _InstanceNorm):
        layer.num_features = inputs
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (inputs,)
    elif isinstance(layer, nn.GroupNorm):
        layer.num_groups = _groups_left(keep_in, layer.num_groups)
        layer.num_channels = inputs
    elif isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
        layer.num_parameters = inputs
    elif isinstance(layer, ChannelOrder):
        left = layer.order.cpu()[keep_out]
        layer.order = (keep_in.cumsum(0) - 1)[left].to(layer.order.device)


def _groups_left(keep: Tensor, groups: int) -> int:
    return int(keep.view(groups, -1).any(1).sum())


def reason_to_stay(layer: nn.Module) -> str | None:
    """Tell why a known layer's tensors can't be replaced by smaller ones; None if they can."""
    derived = [name for name in ("weight_orig", "weight_g") if name in dict(layer.named_parameters(recurse=False))]
    if derived:
        return f"its weight is computed from {derived[0]!r}"
    own = [name for name, _ in (*layer.named_parameters(), *layer.named_buffers()) if name not in ("weight", "bias")]
    if isinstance(layer, nn.LayerNorm) and own:
        return f"a {type(layer).__name__} has {own[0]!r} besides a LayerNorm's weight and bias"
    return None
