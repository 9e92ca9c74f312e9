"""A dense convolution's weights as a depthwise and a pointwise convolution, by least squares.

    fitted = fit_separable(conv)                     # the nearest kernel
    fitted = fit_separable(conv, moments=moments)    # the nearest outputs on the images measured

What is exact. The kernel of a depthwise convolution of multiplier m and a pointwise one has, for each input channel, a
slice (outputs, kernel area) of rank m, and any such slice: so the nearest kernel is each slice's truncated singular
value decomposition (Eckart and Young, 1936). The nearest outputs are the same in whitened patches where input channels
are uncorrelated. Where they are not, that is the start of an alternation: the pointwise weights, and then the depthwise
filters, are each the least-squares optimum given the other.
"""

import torch
from torch import Tensor, nn

from compression.architecture.patch_moments import PatchMoments
from compression.layers.replacement import (
    Replacement,
    check_ungrouped,
    convolution_like,
    filled,
    finite_weight,
    kernel_area,
)


def fit_separable(
    conv: nn.Conv2d, *, multiplier: int = 1, moments: PatchMoments | None = None, sweeps: int = 1
) -> nn.Sequential:
    """Fit a depthwise and a pointwise convolution to a dense one.

    Args:
        conv: Ungrouped, I channels to O by a kernel of k positions; stays as it is.
        multiplier: Depthwise filters for each input channel, from 1 to min(O, k), where nothing is lost.
        moments: Moments of the patches that `conv` sees. With them the outputs' mean squared error is made small,
            without them the kernel's.
        sweeps: Rounds in which the depthwise filters are fitted to the pointwise weights, and these to them;
            none enlarges the error. A round solves I x multiplier x k equations. Only with moments.

    Returns:
        The depthwise convolution, without bias and with the stride, padding and dilation of `conv`, and the
        pointwise one, with a bias if `conv` has one.

    Raises:
        ValueError: If `conv` is grouped, a number is out of its bounds, the moments are not of this kernel,
            or a weight is not finite.
    """
    check_ungrouped(conv)
    _check(conv, multiplier, moments, sweeps)
    kernel = finite_weight(conv).flatten(2)
    factors = _nearest_kernel(kernel, multiplier)
    bias = None if conv.bias is None else conv.bias.detach()
    if moments is not None:
        matrix = moments.error_matrix(conv)
        factors = _nearest_outputs(kernel, matrix, multiplier, sweeps)
        bias = moments.fitted_bias(conv, (kernel - _dense(*factors)).flatten(1))
    return _modules(conv, *factors, bias)


def separable_fit_parameters(conv: nn.Conv2d, multiplier: int = 1) -> int:
    """Count the parameters that `fit_separable(conv, multiplier=multiplier)` would have."""
    weights = multiplier * conv.in_channels * (kernel_area(conv) + conv.out_channels)
    return weights + (conv.out_channels if conv.bias is not None else 0)


def full_multiplier(conv: nn.Conv2d) -> int:
    """Return the smallest multiplier at which any such convolution loses nothing."""
    return min(conv.out_channels, kernel_area(conv))


def _dense(filters: Tensor, mixing: Tensor) -> Tensor:
    """Return the kernel (O, I, k) of filters (I, m, k) and mixing (I, O, m)."""
    return torch.einsum("iom,imk->oik", mixing, filters)


def _nearest_kernel(kernel: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    left, values, right = torch.linalg.svd(kernel.transpose(0, 1), full_matrices=False)
    # Each factor takes the root, so that both have one scale and train at one learning rate.
    roots = values[:, :multiplier].sqrt()
    return roots[:, :, None] * right[:, :multiplier], left[:, :, :multiplier] * roots[:, None, :]


def _nearest_outputs(kernel: Tensor, matrix: Tensor, multiplier: int, sweeps: int) -> tuple[Tensor, Tensor]:
    starts = (_nearest_kernel(kernel, multiplier), _nearest_whitened(kernel, matrix, multiplier))
    candidates = [(filters, _best_mixing(kernel, matrix, filters)) for filters, _ in starts]
    best = min(candidates, key=lambda factors: _output_error(kernel, matrix, factors))
    for _ in range(sweeps):
        filters = _best_filters(kernel, matrix, best[1], multiplier)
        swept = (filters, _best_mixing(kernel, matrix, filters))
        # Rounding could make a sweep worse where the equations are nearly singular.
        best = min(best, swept, key=lambda factors: _output_error(kernel, matrix, factors))
    return _balanced(*best)


def _nearest_whitened(kernel: Tensor, matrix: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Return what would be the optimum if patches of different input channels were uncorrelated."""
    _, inputs, area = kernel.shape
    blocks = torch.stack([matrix.view(inputs, area, inputs, area)[i, :, i] for i in range(inputs)])
    values, vectors = torch.linalg.eigh(blocks)
    kept = values > values[:, -1:].clamp(min=0) * area * torch.finfo(values.dtype).eps
    roots = torch.where(kept, values, 0).sqrt()
    inverse = torch.where(kept, 1 / torch.where(kept, roots, 1), 0)
    whitened = kernel.transpose(0, 1) @ (vectors * roots[:, None, :])
    filters, mixing = _nearest_kernel(whitened.transpose(0, 1), multiplier)
    return filters @ (inverse[:, :, None] * vectors.transpose(1, 2)), mixing


def _best_mixing(kernel: Tensor, matrix: Tensor, filters: Tensor) -> Tensor:
    """Return the best pointwise weights (I, O, m) for given filters: outputs regressed on the filters' outputs."""
    inputs, multiplier, area = filters.shape
    projected = torch.einsum("imk,ikd->imd", filters, matrix.view(inputs, area, -1)).flatten(0, 1)
    gram = torch.einsum("aik,imk->aim", projected.view(-1, inputs, area), filters).flatten(1)
    solution = _solved(gram, projected @ kernel.flatten(1).T)
    return solution.view(inputs, multiplier, -1).transpose(1, 2)


def _best_filters(kernel: Tensor, matrix: Tensor, mixing: Tensor, multiplier: int) -> Tensor:
    """Return the best depthwise filters (I, m, k) for given pointwise weights."""
    outputs, inputs, area = kernel.shape
    columns = mixing.transpose(1, 2).flatten(0, 1)
    gram = (columns @ columns.T).view(inputs, multiplier, inputs, multiplier)
    equations = torch.einsum("imjn,ikjl->imkjnl", gram, matrix.view(inputs, area, inputs, area))
    wanted = torch.einsum("iom,oik->imk", mixing, (kernel.flatten(1) @ matrix).view(outputs, inputs, area))
    size = inputs * multiplier * area
    return _solved(equations.reshape(size, size), wanted.reshape(size, 1)).view(inputs, multiplier, area)


def _solved(equations: Tensor, wanted: Tensor) -> Tensor:
    """Solve consistent positive semi-definite equations; of several solutions the shortest is returned."""
    scale = equations.diagonal().mean()
    factor, failed = torch.linalg.cholesky_ex(equations)
    # Nearly singular ones, as of a dead channel, would have a solution of rounding errors.
    if not failed and factor.diagonal().min() ** 2 > 1e-10 * scale:
        return torch.cholesky_solve(wanted, factor)
    inverse: Tensor = torch.linalg.pinv(equations, rtol=1e-12, hermitian=True)
    return inverse @ wanted


def _output_error(kernel: Tensor, matrix: Tensor, factors: tuple[Tensor, Tensor]) -> float:
    error = (kernel - _dense(*factors)).flatten(1)
    return float(((error @ matrix) * error).sum())


def _balanced(filters: Tensor, mixing: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same kernel, each filter as long as its column of the pointwise weights."""
    lengths, columns = filters.norm(dim=2), mixing.norm(dim=1)
    scale = torch.where((lengths > 0) & (columns > 0), (columns / lengths.clamp(min=1e-300)).sqrt(), 1.0)
    return filters * scale[:, :, None], mixing / scale[:, None, :]


def _modules(conv: nn.Conv2d, filters: Tensor, mixing: Tensor, bias: Tensor | None) -> nn.Sequential:
    inputs, multiplier, _ = filters.shape
    depthwise = convolution_like(conv, inputs, inputs * multiplier, groups=inputs, bias=False, device="meta")
    pointwise = nn.Conv2d(inputs * multiplier, conv.out_channels, 1, bias=bias is not None, device="meta")
    weight = mixing.transpose(1, 2).reshape(inputs * multiplier, -1).T[:, :, None, None]
    height, width = conv.kernel_size
    return Replacement(
        filled(depthwise, conv, filters.reshape(-1, 1, height, width)), filled(pointwise, conv, weight, bias)
    ).train(conv.training)


def _check(conv: nn.Conv2d, multiplier: int, moments: PatchMoments | None, sweeps: int) -> None:
    if not 1 <= multiplier <= full_multiplier(conv):
        raise ValueError(f"multiplier is {multiplier}; from 1 to {full_multiplier(conv)} is possible for {conv}")
    if sweeps < 0:
        raise ValueError(f"sweeps is {sweeps}; it must be at least 0")
    if moments is not None:
        moments.check(conv)
