"""Question 4's CNN in three kinds of equal size: ordinary, depthwise & pointwise, and group convolutions.

Five 3x3 convolutions with BN and ReLU, the first three followed by pooling; channels in proportion 1:2:4:8:8. The first
convolution, of three input channels, stays ordinary in every kind. The width is found for the budget of parameters.
"""

from typing import Literal

import torch
from torch import nn

from compression.architecture.grouping import grouped
from compression.architecture.separable import depthwise_separable
from compression.architecture.width import width_for_budget
from compression.cost import parameter_count
from compression.layers.replacement import replace_convolutions

Kind = Literal["ordinary", "depthwise", "group"]

GROUPS = 4
"""Of each group convolution: neither 1 (ordinary) nor the input channels (depthwise)."""

_EIGHTHS = (1, 2, 4, 8, 8)
_POOLED_BLOCKS = 3


def build(classes: int, kind: Kind = "ordinary", parameters: int = 250_000) -> nn.Module:
    """Builds the widest network of a kind with at most `parameters` parameters."""
    if kind not in ("ordinary", "depthwise", "group"):
        raise ValueError(f"question4: kind is {kind!r}, must be 'ordinary', 'depthwise' or 'group'")

    def count(width: int) -> int:
        with torch.device("meta"):
            return parameter_count(_network(classes, kind, width))

    return _network(classes, kind, width_for_budget(count, parameters))


def _network(classes: int, kind: Kind, width: int) -> nn.Module:
    channels = [GROUPS * max(1, round(width * eighths / 8 / GROUPS)) for eighths in _EIGHTHS]
    blocks = [_block(before, after) for before, after in zip((3, *channels[:-1]), channels, strict=True)]
    for block in blocks[:_POOLED_BLOCKS]:
        block.append(nn.MaxPool2d(2))
    dense = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))
    if kind == "ordinary":
        return dense

    def rewrite(name: str, conv: nn.Conv2d) -> nn.Module | None:
        if name == "0.0":
            return None
        return depthwise_separable(conv) if kind == "depthwise" else grouped(conv, GROUPS)

    return replace_convolutions(dense, rewrite)


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
