"""A dense convolution's weights as a group convolution between two orders of channels, by least squares.

    fitted = fit_grouped(conv, best_groups(conv, 4))
    fitted = fit_grouped(conv, best_groups(conv, 4, moments), moments=moments)

What is exact. Given the groups, the nearest kernel keeps the dense weights inside of them. The nearest outputs are, for
each group, the regression of its dense outputs on the patches of its inputs.
"""

from itertools import chain

import torch
from torch import Tensor, nn

from compression.architecture.channel_groups import ChannelGroups, patch_indices
from compression.architecture.grouping import check_groups
from compression.architecture.patch_moments import PatchMoments
from compression.layers.channel_order import ChannelOrder
from compression.layers.replacement import Replacement, convolution_like, filled, finite_weight


def fit_grouped(conv: nn.Conv2d, groups: ChannelGroups, *, moments: PatchMoments | None = None) -> nn.Sequential:
    """Fit a group convolution to a dense one: with these groups, none is nearer.

    Args:
        conv: Ungrouped; stays as it is.
        groups: The groups of its channels.
        moments: Moments of the patches that `conv` sees. With them the outputs' mean squared error is made small,
            without them the kernel's.

    Returns:
        The group convolution, with a bias if `conv` has one, between two `ChannelOrder`s. They are there even where no
        channel moves, so that the layers have one form, whose state dict fits any choice of as many groups.

    Raises:
        ValueError: If `conv` is grouped, the groups don't fit its channels, the moments are not of this
            kernel, or a weight is not finite.
    """
    _check(conv, groups)
    kernel = finite_weight(conv)
    if moments is not None:
        moments.check(conv)
    order_in, order_out = (torch.tensor(list(chain(*side))) for side in (groups.inputs, groups.outputs))
    weight = torch.cat([
        _block(kernel, seen, given, None if moments is None else moments.error_matrix(conv))
        for seen, given in zip(groups.inputs, groups.outputs, strict=True)
    ])  # fmt: skip
    bias = None if conv.bias is None else conv.bias.detach()[order_out]
    if moments is not None:
        fitted = moments.fitted_bias(conv, (kernel - _dense(weight, groups, kernel)).flatten(1))
        bias = None if fitted is None else fitted[order_out]
    count = len(groups.inputs)
    layer = convolution_like(conv, conv.in_channels, conv.out_channels, groups=count, device="meta")
    before, after = (ChannelOrder.of(order.to(kernel.device)) for order in (order_in, torch.argsort(order_out)))
    return Replacement(before, filled(layer, conv, weight, bias), after).train(conv.training)


def _block(kernel: Tensor, seen: tuple[int, ...], given: tuple[int, ...], matrix: Tensor | None) -> Tensor:
    """Return the weights of one group, (outputs of the group, inputs of the group, height, width)."""
    block = kernel[list(given)][:, list(seen)]
    if matrix is None:
        return block
    patches = patch_indices(seen, kernel[0, 0].numel())
    inverse: Tensor = torch.linalg.pinv(matrix[patches][:, patches], rtol=1e-12, hermitian=True)
    return (kernel[list(given)].flatten(1) @ matrix[:, patches] @ inverse).view_as(block)


def _dense(weight: Tensor, groups: ChannelGroups, like: Tensor) -> Tensor:
    """Return the dense kernel, in the order of `like`, of the groups' weights."""
    dense = torch.zeros_like(like)
    blocks = weight.chunk(len(groups.outputs))
    for seen, given, block in zip(groups.inputs, groups.outputs, blocks, strict=True):
        dense[torch.tensor(given)[:, None], torch.tensor(seen)] = block
    return dense


def _check(conv: nn.Conv2d, groups: ChannelGroups) -> None:
    check_groups(conv, len(groups.inputs))
    for side, found, count in (
        ("input", groups.inputs, conv.in_channels),
        ("output", groups.outputs, conv.out_channels),
    ):
        sizes = {len(group) for group in found}
        if len(found) != len(groups.inputs) or len(sizes) != 1 or sorted(chain(*found)) != list(range(count)):
            raise ValueError(f"{side} groups are {found}; each of {count} channels must be in one of equal size")
