"""Fresh depthwise-separable convolutions in place of ordinary ones.

Every convolution but the first:

    fresh = replace_convolutions(model, lambda name, conv: None if name == "conv1" else depthwise_separable(conv))
"""

from torch import nn

from compression.layers.replacement import check_ungrouped, convolution_like, kernel_area


def depthwise_separable(conv: nn.Conv2d) -> nn.Sequential:
    """Make a fresh depthwise convolution and a pointwise one to replace an ordinary convolution.

    The depthwise one filters each channel alone with the kernel, stride, padding and dilation of `conv`;
    the pointwise one mixes channels (Howard et al., MobileNets, 2017). Both have a bias if `conv` has.
    Maps the same input shapes to the same output shapes.

    Raises:
        ValueError: If `conv` is grouped.
    """
    check_ungrouped(conv)
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
    """Count the parameters that `depthwise_separable(conv)` would have.

    Raises:
        ValueError: If `conv` is grouped.
    """
    check_ungrouped(conv)
    weights = conv.in_channels * kernel_area(conv) + conv.in_channels * conv.out_channels
    biases = conv.in_channels + conv.out_channels if conv.bias is not None else 0
    return weights + biases
