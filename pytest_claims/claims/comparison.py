"""Claims on the difference of two models, over seeds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pytest_claims.claims.claim import (
    Claim,
    Lookup,
    Parts,
    bounds_text,
    by_seed,
    difference_unit,
    differences,
    number_text,
)
from pytest_claims.claims.operands import (
    Pairs,
    check_either,
    check_equal_within,
    check_pairs,
    models_of_pairs,
    open_region,
    region_between,
)
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region


class ComparisonClaim(Claim):
    """The difference A - B, paired by seed, for each pair [A, B], lies within bounds. Of percent, in points.

    `above` excludes its bound (above 0: A has more); the other two include it. With `equal_within`, a claim that is
    neither reproduced nor refuted is *practically equal* where all differences are surely no larger than this.
    """

    kind: Literal["comparison"]
    pairs: Pairs
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    equal_within: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_pairs(self.pairs)
        check_either("above", self.above, "at_least", self.at_least, "at_most", self.at_most)
        check_equal_within(self.equal_within, self.region())
        return self

    def needed_models(self) -> tuple[str, ...]:
        """Return the models of all pairs."""
        return models_of_pairs(self.pairs)

    def region(self) -> Region:
        """Return the differences that are allowed."""
        if self.above is not None:
            return open_region(self.above)
        return region_between(self.at_least, self.at_most)

    def equality(self) -> float | None:
        """Return the margin of equality."""
        return self.equal_within

    def quantities(self, lookup: Lookup) -> Parts:
        """Return each pair's differences."""
        return tuple(differences(*by_seed(self, lookup, pair)) for pair in self.pairs)

    def part_names(self) -> tuple[str, ...]:
        """Return the pairs as differences."""
        return tuple(f"{a} - {b}" for a, b in self.pairs)

    def expectation(self, measure: Measure) -> str:
        """Return the bounds, such as "> 0 points"."""
        bounds = bounds_text(self.at_least, self.at_most) if self.above is None else f"> {number_text(self.above)}"
        return f"{bounds}{self.unit(measure)}"

    def unit(self, measure: Measure) -> str:
        """Return the unit of a difference."""
        return difference_unit(measure)
