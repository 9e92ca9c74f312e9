"""How the range of an affine quantizer is chosen: which values its lowest and highest codes stand for.

A rule takes one row per quantizer and gives each row's lowest and highest value:

    rows = torch.randn(8, 100, dtype=torch.float64)         # 8 channels
    low, high = least_squares(rows, levels=15, symmetric=True)
    rule = functools.partial(percentile, share=99.0)        # rules with a parameter are made so
    quantize_affine(weight, AffineSpec(bits=4, ranges=rule))

All arithmetic is in float64.
"""

from typing import Final, Protocol

import torch
from torch import Tensor

SHARES: Final = 64
"""Ranges tried by `least_squares`, from `WIDEST` of the whole one to `NARROWEST` of it."""

WIDEST: Final = 1.25
NARROWEST: Final = 0.2

SETTLING_STEPS: Final = 4

VALUES_AT_ONCE: Final = 1 << 18
"""Values that `least_squares` looks at together: what fits a CPU's cache is done in a quarter of the time."""

MOST_VALUES_OF_A_QUANTILE: Final = 1 << 20
"""Values a row looked at by `percentile`, evenly spread, if it has more: sorting more tells nothing."""


class RangeRule(Protocol):
    """A rule that chooses a range for each row."""

    def __call__(self, rows: Tensor, levels: int, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Choose a range for each row.

        Args:
            rows: float64, (rows, values), at least one value a row.
            levels: Steps between lowest and highest code: 2^bits - 1, or 2^bits - 2 if symmetric.
            symmetric: Whether low must be -high.

        Returns:
            Low and high of each row, float64, (rows,); zero always lies between them.
        """
        ...


def min_max(rows: Tensor, levels: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Choose the least and the greatest value of each row, so that nothing is clipped."""
    return _around_zero(*torch.aminmax(rows, dim=1), symmetric)


def percentile(rows: Tensor, levels: int, symmetric: bool, share: float = 99.9) -> tuple[Tensor, Tensor]:
    """Choose the range that holds the middle `share` percent of each row; what lies outside is clipped.

    Quantiles are interpolated linearly; if symmetric, of magnitudes.

    Raises:
        ValueError: If `share` is not above 0 and at most 100.
    """
    if not 0 < share <= 100:
        raise ValueError(f"share is {share}; a percentage above 0 and at most 100 is needed")
    stride = -(-rows.shape[1] // MOST_VALUES_OF_A_QUANTILE)
    values = rows[:, ::stride].abs() if symmetric else rows[:, ::stride]
    tail = (1 - share / 100) / (1 if symmetric else 2)
    high = torch.quantile(values, 1 - tail, dim=1)
    low = -high if symmetric else torch.quantile(values, tail, dim=1)
    return _around_zero(low, high, symmetric)


def least_squares(rows: Tensor, levels: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Choose the range of least squared rounding and clipping error, of those on a fine grid.

    Both ends together are set to `SHARES` shares of the whole range; then a symmetric scale settles
    in the nearest local optimum, and else each end is set alone. So the error is never above `min_max`'s.
    """
    parts = torch.split(rows, max(1, VALUES_AT_ONCE // rows.shape[1]))
    lows, highs = zip(*(_least_squares(part, levels, symmetric) for part in parts), strict=True)
    return torch.cat(lows), torch.cat(highs)


def _least_squares(rows: Tensor, levels: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    low, high = min_max(rows, levels, symmetric)
    # Beyond the whole range outer codes stand for no value, which suits a row of few values now and then.
    widest = max(levels / (levels - 1), WIDEST)
    shares = [1.0, *torch.linspace(widest, NARROWEST, SHARES, dtype=torch.float64).tolist()]
    low, high = _best(rows, levels, symmetric, [(low * share, high * share) for share in shares])
    if symmetric:
        return _settled(rows, levels, low, high)
    low, high = _best(rows, levels, symmetric, [(low, high * share) for share in shares])
    return _best(rows, levels, symmetric, [(low * share, high) for share in shares])


def _best(rows: Tensor, levels: int, symmetric: bool, candidates: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    best_low, best_high = candidates[0]
    least = torch.full_like(best_low, torch.inf)
    for low, high in candidates:
        error = _squared_error(rows, low, high, levels, symmetric)
        better = error < least
        least = torch.where(better, error, least)
        best_low, best_high = torch.where(better, low, best_low), torch.where(better, high, best_high)
    return best_low, best_high


def _settled(rows: Tensor, levels: int, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Improve a symmetric scale: take in turn the best codes for it and the best scale for these, <w, q> / <q, q>."""
    for _ in range(SETTLING_STEPS):
        step = (high * 2 / levels)[:, None]
        step = torch.where(step > 0, step, torch.ones_like(step))
        codes = torch.round(rows / step).clamp_(-levels / 2, levels / 2)
        squares = codes.square().sum(dim=1)
        fitted = torch.where(squares > 0, (codes * rows).sum(dim=1) / squares, 2 * high / levels) * levels / 2
        low, high = _best(rows, levels, True, [(low, high), (-fitted, fitted)])
    return low, high


def _squared_error(rows: Tensor, low: Tensor, high: Tensor, levels: int, symmetric: bool) -> Tensor:
    step = ((high - low) / levels)[:, None]
    step = torch.where(step > 0, step, torch.ones_like(step))
    zero = torch.round(-low[:, None] / step) if not symmetric else torch.full_like(step, levels / 2)
    codes = torch.round(rows / step).clamp_(-zero, levels - zero)
    return (codes.mul_(step).sub_(rows)).square_().sum(dim=1)


def _around_zero(low: Tensor, high: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    if symmetric:
        high = torch.maximum(-low, high)
        return -high, high
    return low.clamp(max=0), high.clamp(min=0)
