"""Claims on the difference of two models, over seeds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pytest_claims.claims.claim import bounds_text, number_text
from pytest_claims.claims.operands import check_either, check_equal_within, check_pairs, open_region, region_between
from pytest_claims.claims.pairs import PairsClaim
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region


class ComparisonClaim(PairsClaim):
    """The difference A - B, paired by seed, for each pair [A, B], lies within bounds. Of percent, in points.

    `above` excludes its bound (above 0: A has more); the other two include it. With `equal_within`, a claim that is
    neither reproduced nor refuted is *practically equal* where all differences are surely no larger than this.
    """

    kind: Literal["comparison"]
    above: float | None = None
    equal_within: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_pairs(self.pairs)
        check_either("above", self.above, "at_least", self.at_least, "at_most", self.at_most)
        check_equal_within(self.equal_within, self.region())
        return self

    def region(self) -> Region:
        """Return the differences that are allowed."""
        if self.above is not None:
            return open_region(self.above)
        return region_between(self.at_least, self.at_most)

    def equality(self) -> float | None:
        """Return the margin of equality."""
        return self.equal_within

    def expectation(self, measure: Measure) -> str:
        """Return the bounds, such as "> 0 points"."""
        bounds = bounds_text(self.at_least, self.at_most) if self.above is None else f"> {number_text(self.above)}"
        return f"{bounds}{self.unit(measure)}"
