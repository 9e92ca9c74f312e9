"""Convolutions rewritten as cheaper ones, and widths chosen for a parameter budget."""

import copy
from collections.abc import Callable

import torch
from torch import nn

Rewrite = Callable[[str, nn.Module], nn.Module | None]


def depthwise_separable(conv: nn.Conv2d) -> nn.Sequential:
    """A freshly initialised depthwise convolution and a pointwise one in place of an ordinary one.

    The depthwise one filters each channel alone with the kernel, stride, padding and dilation of `conv`;
    the pointwise one mixes channels (Howard et al., MobileNets, 2017). Both have a bias if `conv` has.
    Maps the same input shapes to the same output shapes.

    Raises:
        ValueError: If `conv` is grouped.
    """
    _check_ungrouped(conv)
    depthwise = convolution_like(conv, conv.in_channels, conv.in_channels, groups=conv.in_channels)
    weight = conv.weight
    pointwise = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        kernel_size=1,
        bias=conv.bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    return nn.Sequential(depthwise, pointwise).train(conv.training)


def depthwise_separable_parameters(conv: nn.Conv2d) -> int:
    """Parameters that `depthwise_separable(conv)` would have.

    Raises:
        ValueError: If `conv` is grouped.
    """
    _check_ungrouped(conv)
    weights = conv.in_channels * _kernel_area(conv) + conv.in_channels * conv.out_channels
    biases = conv.in_channels + conv.out_channels if conv.bias is not None else 0
    return weights + biases


def grouped(conv: nn.Conv2d, groups: int) -> nn.Conv2d:
    """A freshly initialised convolution like an ordinary one, its channels split into groups.

    Each group of output channels sees in_channels / groups input channels (Krizhevsky et al., 2012).

    Raises:
        ValueError: If `conv` is grouped, or `groups` doesn't divide both its channel counts.
    """
    _check_groups(conv, groups)
    return convolution_like(conv, conv.in_channels, conv.out_channels, groups=groups)


def grouped_parameters(conv: nn.Conv2d, groups: int) -> int:
    """Parameters that `grouped(conv, groups)` would have.

    Raises:
        ValueError: As `grouped`.
    """
    _check_groups(conv, groups)
    weights = conv.in_channels // groups * conv.out_channels * _kernel_area(conv)
    return weights + (conv.out_channels if conv.bias is not None else 0)


def convolution_like(
    conv: nn.Conv2d,
    in_channels: int,
    out_channels: int,
    *,
    groups: int = 1,
    bias: bool | None = None,
    device: torch.device | str | None = None,
) -> nn.Conv2d:
    """A freshly initialised convolution with the kernel size, stride, padding and dilation of another.

    Args:
        conv: Gives also the dtype and training flag.
        in_channels: A multiple of `groups`.
        out_channels: A multiple of `groups`.
        groups: Groups of channels that don't see each other.
        bias: Whether it has a bias; as `conv` by default.
        device: Where it lies; as `conv` by default.
    """
    like = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size=(conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=conv.padding if isinstance(conv.padding, str) else (conv.padding[0], conv.padding[1]),
        dilation=(conv.dilation[0], conv.dilation[1]),
        groups=groups,
        bias=conv.bias is not None if bias is None else bias,
        padding_mode=conv.padding_mode,
        device=conv.weight.device if device is None else device,
        dtype=conv.weight.dtype,
    )
    return like.train(conv.training)


def replace_convolutions(model: nn.Module, rewrite: Callable[[str, nn.Conv2d], nn.Module | None]) -> nn.Module:
    """A copy of the model with convolutions replaced.

    Args:
        model: Stays as it is.
        rewrite: Called with the name, as in `get_submodule`, and the copy of each Conv2d; returns what
            takes its place, or None to keep it.
    """
    return replace_layers(model, lambda name, layer: rewrite(name, layer) if isinstance(layer, nn.Conv2d) else None)


def replace_layers(model: nn.Module, rewrite: Rewrite) -> nn.Module:
    """A copy of the model with any of its modules replaced.

    A module that occurs in several places is rewritten once, and its replacement shared in the same way.

    Args:
        model: Stays as it is.
        rewrite: Called with the name, as in `get_submodule`, and the copy of each module, parents before
            children; returns what takes its place, or None to keep it and go on to its children.
    """
    return _replaced(copy.deepcopy(model), "", rewrite, {})


def width_for_budget(
    parameter_count: Callable[[int], int], budget: int, *, at_least: int = 1, at_most: int = 1 << 16
) -> int:
    """The largest width whose parameter count is not above a budget.

    Args:
        parameter_count: Count for a width; never falls as the width grows. It is asked for no width
            above twice the one returned, so it may build the model.
        budget: Parameters.
        at_least: Smallest width to consider, from 1.
        at_most: Largest width to consider.

    Raises:
        ValueError: If the bounds are not in order, or even the smallest width is above the budget.
    """
    if not 1 <= at_least <= at_most:
        raise ValueError(f"widths from {at_least} to {at_most}: they must be in order and start from 1")
    smallest = parameter_count(at_least)
    if smallest > budget:
        raise ValueError(f"width {at_least} needs {smallest} parameters, above the budget of {budget}")
    fits, fails = at_least, min(2 * at_least, at_most + 1)
    while fails <= at_most and parameter_count(fails) <= budget:
        fits, fails = fails, min(2 * fails, at_most + 1)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if parameter_count(middle) <= budget else (fits, middle)
    return fits


def _replaced(module: nn.Module, name: str, rewrite: Rewrite, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in done:
        return done[module]
    replacement = rewrite(name, module)
    done[module] = module if replacement is None else replacement
    if replacement is None:
        # Not `named_children`, which leaves out a child's second name.
        for child_name, child in list(module._modules.items()):
            if child is not None:
                path = f"{name}.{child_name}" if name else child_name
                setattr(module, child_name, _replaced(child, path, rewrite, done))
    return done[module]


def _kernel_area(conv: nn.Conv2d) -> int:
    height, width = conv.kernel_size
    return height * width


def _check_ungrouped(conv: nn.Conv2d) -> None:
    if conv.groups != 1:
        raise ValueError(f"{conv} has {conv.groups} groups; an ordinary convolution, with 1, is needed")


def _check_groups(conv: nn.Conv2d, groups: int) -> None:
    _check_ungrouped(conv)
    if groups < 1 or conv.in_channels % groups or conv.out_channels % groups:
        raise ValueError(
            f"{groups} groups don't divide the {conv.in_channels} input and {conv.out_channels} output "
            f"channels of {conv}"
        )
