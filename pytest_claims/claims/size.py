"""Claims on the ratio of exact numbers of two models."""

import math
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from pytest_claims.claims.claim import Claim, ClaimsError, Lookup, Parts, bounds_text, by_seed, number_text
from pytest_claims.claims.operands import (
    MeasureName,
    Pairs,
    Ratio,
    check_either,
    check_pairs,
    models_of_pairs,
    open_region,
    region_between,
)
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region


class SizeClaim(Claim):
    """The ratio A / B of an exact size, for each pair [A, B], lies within bounds. Exact: one seed tells.

    `ratio_above` excludes its bound (above 1: A is larger, by whatever it may be); the other two include it.
    """

    exact: ClassVar[bool] = True

    kind: Literal["size"]
    measure: MeasureName
    pairs: Pairs
    ratio_above: Ratio | None = None
    ratio_at_least: Ratio | None = None
    ratio_at_most: Ratio | None = None

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_pairs(self.pairs)
        bounds = ("ratio_at_least", self.ratio_at_least, "ratio_at_most", self.ratio_at_most)
        check_either("ratio_above", self.ratio_above, *bounds)
        return self

    def needed_models(self) -> tuple[str, ...]:
        """Return the models of all pairs."""
        return models_of_pairs(self.pairs)

    def region(self) -> Region:
        """Return the ratios that are allowed."""
        if self.ratio_above is not None:
            return open_region(self.ratio_above)
        return region_between(self.ratio_at_least, self.ratio_at_most)

    def quantities(self, lookup: Lookup) -> Parts:
        """Return each pair's ratios."""
        return tuple(
            tuple(self._ratio(pair, *counts) for counts in zip(*by_seed(self, lookup, pair), strict=True))
            for pair in self.pairs
        )

    def _ratio(self, pair: tuple[str, str], count: float, by: float) -> float:
        if by == 0:
            raise ClaimsError(f"{self.id}: {pair[1]} has 0 {self.measure}, should have more to be divided by")
        return count / by

    def part_names(self) -> tuple[str, ...]:
        """Return the pairs as quotients."""
        return tuple(f"{a} / {b}" for a, b in self.pairs)

    def expectation(self, measure: Measure) -> str:
        """Return the bounds, such as "> 1 times"."""
        if self.ratio_above is not None:
            return f"> {number_text(self.ratio_above)} times"
        return f"{bounds_text(self.ratio_at_least, self.ratio_at_most)} times"

    def unit(self, measure: Measure) -> str:
        """Return the unit of a ratio, whatever the measure's."""
        return " times"

    def decimals(self, value: float, measure: Measure) -> int:
        """Return as many as show three digits."""
        return max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
