"""Fresh group convolutions in place of ordinary ones.

Every convolution but the first in four groups:

    fresh = replace_convolutions(model, lambda name, conv: None if name == "conv1" else grouped(conv, 4))
"""

from torch import nn

from compression.layers.replacement import check_ungrouped, convolution_like, kernel_area


def grouped(conv: nn.Conv2d, groups: int) -> nn.Conv2d:
    """Make a fresh convolution like an ordinary one, its channels split into groups.

    Each group of output channels sees in_channels / groups input channels (Krizhevsky et al., 2012).

    Raises:
        ValueError: If `conv` is grouped, or `groups` doesn't divide both its channel counts.
    """
    check_groups(conv, groups)
    return convolution_like(conv, conv.in_channels, conv.out_channels, groups=groups)


def grouped_parameters(conv: nn.Conv2d, groups: int) -> int:
    """Count the parameters that `grouped(conv, groups)` would have.

    Raises:
        ValueError: As `grouped`.
    """
    check_groups(conv, groups)
    weights = conv.in_channels // groups * conv.out_channels * kernel_area(conv)
    return weights + (conv.out_channels if conv.bias is not None else 0)


def check_groups(conv: nn.Conv2d, groups: int) -> None:
    """Check that a convolution's channels can be split into so many groups.

    Raises:
        ValueError: As `grouped`.
    """
    check_ungrouped(conv)
    if groups < 1 or conv.in_channels % groups or conv.out_channels % groups:
        raise ValueError(
            f"{groups} groups don't divide the {conv.in_channels} input and {conv.out_channels} output "
            f"channels of {conv}"
        )
