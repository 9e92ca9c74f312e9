"""A share of a number of things, as a whole number."""

from fractions import Fraction
from math import floor


def share_of(count: int, share: float) -> int:
    """Return the share of a count, rounded down.

    29 of 100 at 0.29, where the product of binary floats is below 29.

    Args:
        count: The number of all.
        share: Taken as the nearest fraction of a denominator up to 1e9, which differs by less than 1e-9.
    """
    return floor(Fraction(share).limit_denominator(10**9) * count)
