"""Claims on one number of one model, over seeds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pytest_claims.claims.claim import Claim, Lookup, Parts, bounds_text, number_text, unnoised
from pytest_claims.claims.operands import Model, check_either, region_between
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region


class AccuracyClaim(Claim):
    """One number of one model is the published one within a tolerance, or lies within bounds, in the measure's unit."""

    kind: Literal["accuracy"]
    model: Model
    published: float | None = None
    tolerance: Annotated[float, Field(gt=0)] | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        if (self.published is None) != (self.tolerance is None):
            raise ValueError("'published' and 'tolerance' should be given together")
        check_either("published", self.published, "at_least", self.at_least, "at_most", self.at_most)
        return self

    def needed_models(self) -> tuple[str, ...]:
        """Return the model."""
        return (self.model,)

    def region(self) -> Region:
        """Return the neighbourhood of the published number, or what lies between the bounds."""
        if self.published is not None and self.tolerance is not None:
            return Region(unnoised(self.published - self.tolerance), unnoised(self.published + self.tolerance))
        return region_between(self.at_least, self.at_most)

    def quantities(self, lookup: Lookup) -> Parts:
        """Return the numbers."""
        return (tuple(lookup(self.model, self.measure)),)

    def part_names(self) -> tuple[str, ...]:
        """Return the model."""
        return (self.model,)

    def expectation(self, measure: Measure) -> str:
        """Return the published number with its tolerance, or the bounds."""
        if self.published is not None:
            return f"{number_text(self.published)} +- {number_text(self.tolerance)}{self.unit(measure)}"
        return f"{bounds_text(self.at_least, self.at_most)}{self.unit(measure)}"
