"""The layers that factors become: parts of a dense layer, with the geometry of some of its axes.

Example:
    inner = convolution_part(conv, weight, (True, False), conv.groups)  # conv's stride and padding, vertically alone
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from compression.layers.replacement import Replacement, filled, finite_weight
from compression.low_rank.factorization import Factorizable, group_count

FactorsT = TypeVar("FactorsT", bound=tuple[Tensor, ...])


def group_factors(layer: Factorizable, split: Callable[[Tensor], FactorsT]) -> list[Tensor]:
    """Factorize each group's float64 weight; the groups' factors are stacked along their first dimension.

    Raises:
        ValueError: If a weight is not finite.
    """
    groups = finite_weight(layer).chunk(group_count(layer))
    return [torch.cat(parts) for parts in zip(*(split(group) for group in groups), strict=True)]


def linear_part(dense: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Make a linear layer of given weights, (outputs, inputs)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return filled(linear, dense, weight, bias)


def convolution_part(
    dense: nn.Conv2d, weight: Tensor, axes: tuple[bool, bool], groups: int, bias: Tensor | None = None
) -> nn.Conv2d:
    """Make a convolution of given weights.

    Args:
        dense: The convolution that it is a part of.
        weight: Shape (outputs, inputs of a group, height, width).
        axes: Whether it has the stride, padding and dilation of `dense` vertically, and horizontally.
        groups: The number of groups.
        bias: The bias, if it has one.
    """

    def of(sizes: Sequence[int], neutral: int) -> tuple[int, int]:
        return sizes[0] if axes[0] else neutral, sizes[1] if axes[1] else neutral

    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        kernel_size=(weight.shape[2], weight.shape[3]),
        stride=of(dense.stride, 1),
        # "same" is by kernel size, so that an axis without one gets none.
        padding=dense.padding if isinstance(dense.padding, str) else of(dense.padding, 0),
        dilation=of(dense.dilation, 1),
        groups=groups,
        bias=bias is not None,
        padding_mode=dense.padding_mode,
        device="meta",
    )
    return filled(conv, dense, weight, bias)


def pointwise_part(dense: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    """Make a 1x1 convolution of given weights, (outputs, inputs of a group), in the groups of `dense`."""
    return convolution_part(dense, weight[:, :, None, None], (False, False), dense.groups, bias)


def in_sequence(dense: Factorizable, layers: Sequence[nn.Module]) -> Replacement:
    """Put factors one after the other, with the training flag of the layer that they stand for."""
    return Replacement(*layers).train(dense.training)
