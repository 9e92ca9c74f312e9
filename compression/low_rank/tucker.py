"""Convolutions as a smaller one between two 1x1 ones, by Tucker decomposition (Kim et al., 2016).

Example:
    model.conv2 = factorize_tucker(model.conv2, (32, 16), iterations=10)
"""

import torch
from torch import Tensor, nn

from compression.low_rank.factorization import Factorization, check_factorization
from compression.low_rank.factors import convolution_part, group_factors, in_sequence, pointwise_part


def factorize_tucker(conv: nn.Conv2d, ranks: tuple[int, int], iterations: int = 0) -> nn.Sequential:
    """Factorize a convolution by Tucker-2 decomposition.

    Both bases are the leading left singular vectors of the kernel's unfoldings (truncated HOSVD; De Lathauwer
    et al., 2000), which never enlarges the error as a rank grows; each further iteration improves one given
    the other (HOOI), and never enlarges the error.

    Args:
        conv: Maps I channels to O by a kernel of k positions, not 1x1; stays as it is.
        ranks: (r_out, r_in) of each group, each from 1; at most min(O, I k) and min(I, O k) of a group.
        iterations: HOOI sweeps, from 0.

    Returns:
        A 1x1 convolution from I to r_in; a core from r_in to r_out with the kernel size, stride, padding and
        dilation of `conv`; a 1x1 from r_out to O with its bias. The first two have none; all have its groups.

    Raises:
        ValueError: If `conv` is 1x1, a number is out of its bounds, or a weight is not finite.
    """
    check_factorization(conv, Factorization("tucker", ranks))
    if iterations < 0:
        raise ValueError(f"iterations is {iterations}; it must be at least 0")
    inner, core, outer = group_factors(conv, lambda kernel: _tucker(kernel, ranks, iterations))
    layers = (
        pointwise_part(conv, inner),
        convolution_part(conv, core, (True, True), conv.groups),
        pointwise_part(conv, outer, conv.bias),
    )
    return in_sequence(conv, layers)


def higher_order_svd(kernel: Tensor) -> Tensor:
    """Return the core of a kernel's full HOSVD, both of shape (outputs, inputs, height, width).

    Its leading block is the core of every truncated one, and holds the energy that this keeps.
    """
    basis_out = _leading_vectors(kernel.flatten(1), len(kernel))
    basis_in = _leading_vectors(kernel.transpose(0, 1).flatten(1), kernel.shape[1])
    return _project(_project(kernel, 0, basis_out), 1, basis_in)


def _tucker(kernel: Tensor, ranks: tuple[int, int], iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    rank_out, rank_in = ranks
    basis_out = _leading_vectors(kernel.flatten(1), rank_out)
    basis_in = _leading_vectors(kernel.transpose(0, 1).flatten(1), rank_in)
    for _ in range(iterations):
        basis_out = _leading_vectors(_project(kernel, 1, basis_in).flatten(1), rank_out)
        basis_in = _leading_vectors(_project(kernel, 0, basis_out).transpose(0, 1).flatten(1), rank_in)
    return basis_in.T, _project(_project(kernel, 0, basis_out), 1, basis_in), basis_out


def _leading_vectors(unfolding: Tensor, count: int) -> Tensor:
    # The triangular factor has the same left singular vectors, and is small where the unfolding is wide.
    triangle = torch.linalg.qr(unfolding.T, mode="r").R
    vectors: Tensor = torch.linalg.svd(triangle.T, full_matrices=False).U
    return vectors[:, :count]


def _project(kernel: Tensor, dim: int, basis: Tensor) -> Tensor:
    projected: Tensor = torch.tensordot(kernel, basis, dims=([dim], [0]))
    return projected.movedim(-1, dim)
