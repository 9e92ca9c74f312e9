"""Channels ranked by their BatchNorm gamma, then masked with zeros or cut out of the model."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class ChannelGroup:
    """The layers that share one set of channels, by name as in `nn.Module.get_submodule`.

    Attributes:
        scored_by: BatchNorm whose gamma ranks the channels; one of `carried_by`.
        produced_by: Ungrouped Conv2d and Linear layers whose outputs are the channels.
        carried_by: Depthwise Conv2d and BatchNorm layers, each channel of which is one of them.
        consumed_by: Ungrouped Conv2d and Linear layers whose inputs are the channels; a Linear may take
            several features of each, one channel's after the other's, as `flatten` lays them out.

    Raises:
        ValueError: If `scored_by` is not in `carried_by`.
    """

    scored_by: str
    produced_by: tuple[str, ...]
    carried_by: tuple[str, ...]
    consumed_by: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.scored_by not in self.carried_by:
            raise ValueError(f"scored_by is {self.scored_by!r}; it must be one of carried_by {self.carried_by}")


def scaled_width(channels: int, multiplier: float) -> int:
    """Channels of a layer under a width multiplier: int(channels * multiplier).

    Raises:
        ValueError: If the multiplier is not finite, or leaves no channel.
    """
    if not math.isfinite(multiplier) or int(channels * multiplier) < 1:
        raise ValueError(f"multiplier {multiplier} leaves no channel of {channels}; at least 1 is needed")
    return int(channels * multiplier)


def top_channels(gamma: Tensor, count: int) -> Tensor:
    """Indices of the largest gammas by signed value, not magnitude.

    Args:
        gamma: Scale of a BatchNorm layer, of shape (C,).
        count: Channels to keep, from 1 to C.

    Returns:
        int64 indices of shape (count,), ascending. Of equal gammas the one of lower index is kept.

    Raises:
        ValueError: If `count` is out of its bounds, or gamma is not one-dimensional or holds NaN.
    """
    if gamma.ndim != 1 or bool(gamma.isnan().any()):
        raise ValueError(f"gamma of shape {tuple(gamma.shape)} must be one-dimensional and without NaN")
    if not 1 <= count <= len(gamma):
        raise ValueError(f"{count} channels to keep of {len(gamma)}; from 1 to {len(gamma)} is possible")
    order = torch.sort(gamma.detach(), descending=True, stable=True).indices
    return order[:count].sort().values


def select_channels(model: nn.Module, groups: Sequence[ChannelGroup], counts: Sequence[int]) -> list[Tensor]:
    """The channels of each group to keep: those of largest signed gamma (Liu et al., Network Slimming, 2017).

    Args:
        model: Holds the groups' layers.
        groups: Groups to choose in.
        counts: Channels to keep of each group.

    Returns:
        For each group, ascending int64 indices as by `top_channels`.

    Raises:
        ValueError: If the lengths differ, a group doesn't fit the model, or a count is out of bounds.
    """
    _check_lengths(groups, counts, "counts")
    selected = []
    for group, count in zip(groups, counts, strict=True):
        try:
            selected.append(top_channels(_scoring_norm(model, group).weight, count))
        except ValueError as error:
            raise ValueError(f"layer {group.scored_by!r}: {error}") from error
    return selected


def prune(model: nn.Module, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> nn.Module:
    """A copy of the model with all but the kept channels cut out.

    Weights, biases and BatchNorm statistics of kept channels are the original's, in their order, with its
    dtype, memory format, `requires_grad` and training flags.

    Args:
        model: Stays as it is.
        groups: Groups to cut.
        kept: For each group, ascending indices of the channels to keep.

    Raises:
        ValueError: If the groups or indices don't fit the model; the message names the layer.
    """
    _check(model, groups, kept)
    cut = copy.deepcopy(model)
    for group, index in zip(groups, kept, strict=True):
        channels = _scoring_norm(cut, group).num_features
        for name in group.produced_by:
            _cut_outputs(cut.get_submodule(name), index)
        for name in group.consumed_by:
            _cut_inputs(cut.get_submodule(name), index, channels)
        for name in group.carried_by:
            _cut_channels(cut.get_submodule(name), index)
    return cut


def mask(model: nn.Module, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> nn.Module:
    """A copy of the model in which all but the kept channels contribute exactly zero.

    The scoring BatchNorm's gamma and beta, and the weights of the layers that consume the channel, are
    set to zero; so the model's outputs are those of the one that `prune` cuts, whatever lies between.

    Args:
        model: Stays as it is.
        groups: Groups to mask.
        kept: For each group, ascending indices of the channels to keep.

    Raises:
        ValueError: As `prune`.
    """
    _check(model, groups, kept)
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for group, index in zip(groups, kept, strict=True):
            norm = _scoring_norm(masked, group)
            dropped = torch.ones(norm.num_features, dtype=torch.bool)
            dropped[index.cpu()] = False
            dropped = dropped.to(norm.weight.device)
            for parameter in norm.parameters(recurse=False):
                parameter[dropped] = 0
            for name in group.consumed_by:
                weight = masked.get_submodule(name).get_parameter("weight")
                weight[:, dropped.repeat_interleave(weight.shape[1] // len(dropped))] = 0
    return masked


def _cut_outputs(layer: nn.Module, index: Tensor) -> None:
    _cut_tensors(layer, index, 0, ("weight", "bias"))
    if isinstance(layer, nn.Conv2d):
        layer.out_channels = len(index)
    elif isinstance(layer, nn.Linear):
        layer.out_features = len(index)


def _cut_inputs(layer: nn.Module, index: Tensor, channels: int) -> None:
    block = layer.get_parameter("weight").shape[1] // channels
    features = (index[:, None] * block + torch.arange(block, device=index.device)).flatten()
    _cut_tensors(layer, features, 1, ("weight",))
    if isinstance(layer, nn.Conv2d):
        layer.in_channels = len(features)
    elif isinstance(layer, nn.Linear):
        layer.in_features = len(features)


def _cut_channels(layer: nn.Module, index: Tensor) -> None:
    _cut_tensors(layer, index, 0, ("weight", "bias", "running_mean", "running_var"))
    if isinstance(layer, nn.Conv2d):
        layer.in_channels = layer.out_channels = layer.groups = len(index)
    elif isinstance(layer, _BatchNorm):
        layer.num_features = len(index)


def _cut_tensors(layer: nn.Module, index: Tensor, dim: int, names: Sequence[str]) -> None:
    for name in names:
        tensor: Tensor | None = getattr(layer, name, None)
        if tensor is None:
            continue
        cut = _index_in_layout(tensor.detach(), dim, index)
        is_parameter = isinstance(tensor, nn.Parameter)
        setattr(layer, name, nn.Parameter(cut, tensor.requires_grad) if is_parameter else cut)


def _index_in_layout(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    # Outermost dimension first; of equal strides, one of size 1 lies innermost, as in channels-last.
    strides, sizes = tensor.stride(), tensor.shape
    order = sorted(range(tensor.ndim), key=lambda axis: (-strides[axis], -sizes[axis]))
    cut = tensor.permute(order).index_select(order.index(dim), index.to(tensor.device)).contiguous()
    return cut.permute([order.index(axis) for axis in range(tensor.ndim)])


def _check(model: nn.Module, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> None:
    _check_lengths(groups, kept, "kept")
    claimed: dict[tuple[nn.Module, str], str] = {}
    for group, index in zip(groups, kept, strict=True):
        channels = _scoring_norm(model, group).num_features
        _check_index(group.scored_by, index, channels)
        for name, sides in _roles(group):
            layer = _layer(model, name)
            _check_size(name, layer, sides, channels)
            for side in sides:
                if (layer, side) in claimed:
                    raise ValueError(
                        f"layer {name!r}: its {side} are in the groups scored by "
                        f"{claimed[layer, side]!r} and {group.scored_by!r}; one may hold them"
                    )
                claimed[layer, side] = group.scored_by


def _roles(group: ChannelGroup) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in group.produced_by:
        yield name, ("outputs",)
    for name in group.carried_by:
        yield name, ("inputs", "outputs")
    for name in group.consumed_by:
        yield name, ("inputs",)


def _size(layer: nn.Module, sides: tuple[str, ...]) -> int | None:
    carries = len(sides) == 2
    if carries and isinstance(layer, _BatchNorm):
        return layer.num_features
    if carries and isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels:
        return layer.out_channels
    if not carries and isinstance(layer, nn.Linear):
        return layer.in_features if "inputs" in sides else layer.out_features
    if not carries and isinstance(layer, nn.Conv2d) and layer.groups == 1:
        return layer.in_channels if "inputs" in sides else layer.out_channels
    return None


def _check_size(name: str, layer: nn.Module, sides: tuple[str, ...], channels: int) -> None:
    size = _size(layer, sides)
    if size is None:
        kinds = "BatchNorm or depthwise Conv2d" if len(sides) == 2 else "Linear or Conv2d with groups=1"
        raise ValueError(f"layer {name!r}: can't cut the {' and '.join(sides)} of {layer}; {kinds} is needed")
    flattened = sides == ("inputs",) and isinstance(layer, nn.Linear)
    if size % channels if flattened else size != channels:
        wanted = f"a multiple of {channels}" if flattened else str(channels)
        raise ValueError(f"layer {name!r}: has {size} {sides[0]}; {wanted} is needed, as its group has")


def _check_index(name: str, index: Tensor, channels: int) -> None:
    values = index.tolist()
    if index.dtype != torch.int64 or index.ndim != 1 or not values:
        raise ValueError(
            f"layer {name!r}: kept channels are {index.dtype} of shape {tuple(index.shape)}; "
            "at least one index, torch.int64 and one-dimensional, is needed"
        )
    if values != sorted(set(values)) or values[0] < 0 or values[-1] >= channels:
        raise ValueError(
            f"layer {name!r}: kept channels {values} must ascend without repeats, from 0 to {channels - 1}"
        )


def _check_lengths(groups: Sequence[ChannelGroup], values: Sequence[object], what: str) -> None:
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} {what} for {len(groups)} groups; one for each is needed")


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise ValueError(f"layer {name!r}: the model has no such layer") from error


def _scoring_norm(model: nn.Module, group: ChannelGroup) -> _BatchNorm:
    norm = _layer(model, group.scored_by)
    if not isinstance(norm, _BatchNorm) or not norm.affine:
        raise ValueError(f"layer {group.scored_by!r}: {norm} has no gamma; an affine BatchNorm is needed")
    return norm
