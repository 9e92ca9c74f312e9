"""Convolutions as a 1x1, a depthwise vertical, a depthwise horizontal and a 1x1 one, by CP decomposition.

Example:
    model.conv2 = factorize_cp(model.conv2, rank=64)
"""

import math

import torch
from torch import Tensor, nn

from compression.low_rank.factorization import Factorization, check_factorization
from compression.low_rank.factors import convolution_part, group_factors, in_sequence, pointwise_part

_COMPONENT_SWEEPS = 3


def factorize_cp(conv: nn.Conv2d, rank: int, sweeps: int = 50) -> nn.Sequential:
    """Factorize a convolution by canonical polyadic decomposition (Lebedev et al., 2015).

    The factors are found by alternating least squares.

    A best decomposition need not exist, and no method finds it for sure. This one grows from rank 1. Each rank starts
    from the nearer of two: the components of the rank before with one more of what they leave, or as many of the
    largest singular components of the kernel's slices (one slice a kernel position; at full rank they are the kernel).
    Each sweep solves for one factor after the other exactly, and never enlarges the error. So, up to rounding, the
    error at the same `sweeps` never grows with the rank, and no number of sweeps leaves more error than none. But more
    sweeps need not be better than fewer, as they may lead to another optimum.

    The ranks on the way share the work: rank r takes 2 `sweeps` / r sweeps, rounded up. All of them cost at most what
    2 `sweeps` + `rank` / 2 do at the last rank: four to eight times one start's at 50 sweeps and 64 to 128 components.

    Args:
        conv: Maps I channels to O by an h x w kernel, not 1x1; stays as it is.
        rank: Channels in between for each group, from 1 to min(O, I) h w of a group.
        sweeps: Through all four factors, from 0: the largest components of the slices as they are; ends sooner where
            the error falls no more.

    Returns:
        A 1x1 convolution from I to the rank; a depthwise h x 1 and a depthwise 1 x w one with the stride,
        padding and dilation of `conv`; a 1x1 to O with its bias. The others have none.

    Raises:
        ValueError: If `conv` is 1x1, a number is out of its bounds, or a weight is not finite.
    """
    check_factorization(conv, Factorization("cp", (rank,)))
    if sweeps < 0:
        raise ValueError(f"sweeps is {sweeps}; it must be at least 0")
    inner, vertical, horizontal, outer = group_factors(conv, lambda kernel: _layer_weights(kernel, rank, sweeps))
    depth = rank * conv.groups
    layers = (
        pointwise_part(conv, inner),
        convolution_part(conv, vertical[:, None, :, None], (True, False), depth),
        convolution_part(conv, horizontal[:, None, None, :], (False, True), depth),
        pointwise_part(conv, outer, conv.bias),
    )
    return in_sequence(conv, layers)


def _layer_weights(kernel: Tensor, rank: int, sweeps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    outer, inner, vertical, horizontal = _balanced(_grown(kernel, rank, sweeps))
    return inner.T, vertical.T, horizontal.T, outer


def _grown(kernel: Tensor, rank: int, sweeps: int) -> list[Tensor]:
    """Return factors (outputs, inputs, height, width; each by rank), found for one rank after another."""
    largest = _largest_components(kernel, rank)
    if not sweeps:
        return largest
    factors = [factor[:, :0] for factor in largest]
    for count in range(1, rank + 1):
        component = _strong_component(kernel - _product(factors))
        extended = [torch.cat(pair, dim=1) for pair in zip(factors, component, strict=True)]
        starts = (extended, [factor[:, :count] for factor in largest])
        nearer = min(starts, key=lambda start: _error(kernel, start))
        factors = _alternated(kernel, nearer, math.ceil(2 * sweeps / count))
    return factors


def _strong_component(kernel: Tensor) -> list[Tensor]:
    """Return one component that leaves less of a kernel: its longest fibre, improved by some sweeps."""
    _, inputs, height, width = kernel.shape
    place = torch.unravel_index(kernel.square().sum(dim=0).argmax(), (inputs, height, width))
    units = (torch.eye(size, dtype=kernel.dtype, device=kernel.device) for size in (inputs, height, width))
    fibre = kernel[:, place[0], place[1], place[2], None]
    start = [fibre, *(unit[:, at, None] for unit, at in zip(units, place, strict=True))]
    return _balanced(_alternated(kernel, start, _COMPONENT_SWEEPS))


def _largest_components(kernel: Tensor, rank: int) -> list[Tensor]:
    """Return the largest components of the slices as factors (outputs, inputs, height, width; each by rank)."""
    outputs, inputs, height, width = kernel.shape
    left, values, right = torch.linalg.svd(kernel.permute(2, 3, 0, 1).reshape(-1, outputs, inputs), full_matrices=False)
    chosen = values.flatten().argsort(descending=True, stable=True)[:rank]
    position, component = chosen // values.shape[1], chosen % values.shape[1]
    rows, columns = (torch.eye(size, dtype=kernel.dtype, device=kernel.device) for size in (height, width))
    return [
        left[position, :, component].T * values[position, component],
        right[position, component].T,
        rows[:, position // width],
        columns[:, position % width],
    ]


def _alternated(kernel: Tensor, factors: list[Tensor], sweeps: int) -> list[Tensor]:
    best, error = factors, _error(kernel, factors)
    for _ in range(sweeps):
        swept = _swept(kernel, best)
        # Rounding could make a sweep worse where the equations are nearly singular.
        now = _error(kernel, swept)
        if not now < error * (1 - 1e-7):
            break
        best, error = swept, now
    return best


def _swept(kernel: Tensor, factors: list[Tensor]) -> list[Tensor]:
    """Solve for each factor in turn, given the others.

    What the kernel gives with the factors before is kept for those after: two passes over it instead of four.
    """
    _, inner, vertical, horizontal = factors
    grams = [factor.T @ factor for factor in factors]

    def solve(mode: int, wanted: Tensor) -> Tensor:
        first, second, third = (grams[other] for other in range(4) if other != mode)
        factor = _solved(first * second * third, wanted)
        grams[mode] = factor.T @ factor
        return factor

    outer = solve(0, kernel.flatten(1) @ _khatri_rao(inner, vertical, horizontal))
    # Of each component: inputs by positions, then height by width.
    by_outer = (outer.T @ kernel.flatten(1)).view(-1, kernel.shape[1], kernel[0, 0].numel())
    positions = (vertical.T[:, :, None] * horizontal.T[:, None, :]).flatten(1)
    inner = solve(1, (by_outer @ positions[:, :, None])[:, :, 0].T)
    by_inner = (inner.T[:, None, :] @ by_outer).view(-1, *kernel.shape[2:])
    vertical = solve(2, (by_inner @ horizontal.T[:, :, None])[:, :, 0].T)
    horizontal = solve(3, (vertical.T[:, None, :] @ by_inner)[:, 0].T)
    return [outer, inner, vertical, horizontal]


def _solved(gram: Tensor, wanted: Tensor) -> Tensor:
    """Return the shortest factor (size, rank) with `factor @ gram` = `wanted`; alike components leave many of them."""
    values, vectors = torch.linalg.eigh(gram)
    inverses = torch.where(values > 1e-12 * values[-1], 1 / values, 0)
    solution: Tensor = (wanted @ vectors * inverses) @ vectors.T
    return solution


def _khatri_rao(inner: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Return, for each component, all products (inputs height width, rank)."""
    return (inner[:, None, None] * vertical[:, None] * horizontal).flatten(0, 2)


def _product(factors: list[Tensor]) -> Tensor:
    """Return the kernel (outputs, inputs, height, width) that factors stand for."""
    outer, *others = factors
    return (outer @ _khatri_rao(*others).T).view([len(factor) for factor in factors])


def _error(kernel: Tensor, factors: list[Tensor]) -> float:
    return float((_product(factors) - kernel).norm())


def _balanced(factors: list[Tensor]) -> list[Tensor]:
    """Return factors of the same product, each component as long in all of them."""
    lengths = torch.stack([factor.norm(dim=0) for factor in factors])
    common = lengths.prod(dim=0) ** 0.25
    return [
        factor * torch.where(length > 0, common / torch.where(length > 0, length, 1), 0)
        for factor, length in zip(factors, lengths, strict=True)
    ]
