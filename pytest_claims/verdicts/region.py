"""Where a claim's quantities should lie."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """The values that a claim allows, both edges included, in the unit of what is claimed.

    Raises:
        ValueError: an edge is NaN, the edges are out of order, or there is no edge at all.
    """

    lower: float = -math.inf
    upper: float = math.inf

    def __post_init__(self) -> None:
        if not self.lower <= self.upper:
            raise ValueError(f"region [{self.lower}, {self.upper}]: the edges should be numbers in order")
        if math.isinf(self.lower) and math.isinf(self.upper):
            raise ValueError(f"region [{self.lower}, {self.upper}]: at least one edge should be finite")

    def contains(self, lower: float, upper: float) -> bool:
        """Whether all of the interval [lower, upper] is allowed."""
        return self.lower <= lower and upper <= self.upper

    def distance(self, value: float) -> float:
        """How far outside `value` lies; negative inside, by the distance to the nearest edge."""
        return max(value - self.upper, self.lower - value)


def equality_region(margin: float) -> Region:
    """Return the differences that count as none, [-margin, margin].

    Raises:
        ValueError: the margin is not a positive, finite number.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"a margin of equality is {margin}, should be a positive number")
    return Region(-margin, margin)
