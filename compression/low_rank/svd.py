"""Layers as two thinner ones by singular value decomposition: the nearest of their rank (Eckart and Young, 1936).

Example:
    model.fc = factorize_linear(model.fc, rank=32)
    model.conv2 = factorize_spatial(model.conv2, rank=48)
"""

import torch
from torch import Tensor, nn

from compression.low_rank.factorization import Factorization, check_factorization
from compression.low_rank.factors import convolution_part, group_factors, in_sequence, linear_part, pointwise_part


def factorize_linear(linear: nn.Linear, rank: int) -> nn.Sequential:
    """Factorize a linear layer into two thinner ones, its best approximation of this rank.

    Args:
        linear: Maps I features to O; stays as it is.
        rank: Features in between, from 1 to min(O, I).

    Returns:
        Linear(I, rank) without bias, then Linear(rank, O) with the bias if `linear` has one.

    Raises:
        ValueError: If the rank is out of its bounds, or a weight is not finite.
    """
    check_factorization(linear, Factorization("svd", (rank,)))
    inner, outer = group_factors(linear, lambda weight: _split(weight, rank))
    return in_sequence(linear, (linear_part(linear, inner), linear_part(linear, outer, linear.bias)))


def factorize_pointwise(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """Factorize a 1x1 convolution into two thinner ones, as `factorize_linear` does a linear layer.

    Args:
        conv: 1x1, maps I channels to O; stays as it is.
        rank: Channels in between for each group, from 1 to the smaller number of a group's channels.

    Returns:
        A 1x1 convolution without bias, with the stride and padding of `conv`, then one with its bias; both
        with its groups.

    Raises:
        ValueError: If `conv` is not 1x1, the rank is out of its bounds, or a weight is not finite.
    """
    check_factorization(conv, Factorization("svd", (rank,)))
    inner, outer = group_factors(conv, lambda weight: _split(weight.flatten(1), rank))
    first = convolution_part(conv, inner[:, :, None, None], (True, True), conv.groups)
    return in_sequence(conv, (first, pointwise_part(conv, outer, conv.bias)))


def factorize_spatial(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """Factorize a convolution into a vertical and a horizontal one, its best approximation of this rank.

    The method is that of Jaderberg et al. (2014).

    The kernel is a matrix of (input, row) by (output, column), whose rank is the number of channels between.

    Args:
        conv: Maps I channels to O by an h x w kernel, not 1x1; stays as it is.
        rank: Channels in between for each group, from 1 to min(I h, O w) of a group.

    Returns:
        An h x 1 convolution without bias, with the stride, padding and dilation of `conv` vertically, then
        a 1 x w one with the same horizontally and its bias; both with its groups.

    Raises:
        ValueError: If `conv` is 1x1, the rank is out of its bounds, or a weight is not finite.
    """
    check_factorization(conv, Factorization("spatial", (rank,)))

    def split(kernel: Tensor) -> tuple[Tensor, Tensor]:
        outputs, inputs, height, width = kernel.shape
        outer, inner = _split(spatial_matrix(kernel), rank)
        return (
            inner.T.reshape(rank, inputs, height, 1),
            outer.T.reshape(outputs, width, rank).transpose(1, 2)[:, :, None, :],
        )

    inner, outer = group_factors(conv, split)
    first = convolution_part(conv, inner, (True, False), conv.groups)
    return in_sequence(conv, (first, convolution_part(conv, outer, (False, True), conv.groups, conv.bias)))


def spatial_matrix(kernel: Tensor) -> Tensor:
    """Return the matrix (inputs x height, outputs x width) of a kernel (outputs, inputs, height, width)."""
    outputs, inputs, height, width = kernel.shape
    return kernel.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)


def singular_values(matrix: Tensor) -> Tensor:
    """Return the min(m, n) singular values of a matrix (m, n), the largest first."""
    values: Tensor = torch.linalg.svdvals(_upright(matrix))
    return values


def _split(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Split a matrix (m, n) into factors (rank, n) and (m, rank): it is about the second times the first."""
    upright = _upright(matrix)
    left, values, right = torch.linalg.svd(upright, full_matrices=False)
    if upright is not matrix:
        left, right = right.T, left.T
    # Each factor takes the root, so that both have one scale and train at one learning rate.
    roots = values[:rank].sqrt()
    return roots[:, None] * right[:rank], left[:, :rank] * roots


def _upright(matrix: Tensor) -> Tensor:
    """Transpose a wide matrix: LAPACK reduces a long one by QR first, but takes many times as long for a wide one."""
    rows, columns = matrix.shape
    return matrix.T if columns >= 2 * rows else matrix
