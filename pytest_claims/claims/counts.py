"""Claims on exact numbers of single models."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pytest_claims.claims.claim import Claim, Lookup, Parts, bounds_text, number_text
from pytest_claims.claims.operands import Count, MeasureName, Model, check_distinct, check_either, region_between
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region


class ParametersClaim(Claim):
    """Each model's count equals a number, or lies within bounds (both included). Exact: one seed tells."""

    exact: ClassVar[bool] = True

    kind: Literal["parameters"]
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    measure: MeasureName = "parameters"
    equals: Count | None = None
    at_least: Count | None = None
    at_most: Count | None = None

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_distinct(self.models)
        check_either("equals", self.equals, "at_least", self.at_least, "at_most", self.at_most)
        return self

    def needed_models(self) -> tuple[str, ...]:
        """Return all models."""
        return self.models

    def region(self) -> Region:
        """Return the one count, or the counts between the bounds."""
        if self.equals is not None:
            return Region(self.equals, self.equals)
        return region_between(self.at_least, self.at_most)

    def quantities(self, lookup: Lookup) -> Parts:
        """Return each model's counts."""
        return tuple(tuple(lookup(model, self.measure)) for model in self.models)

    def part_names(self) -> tuple[str, ...]:
        """Return the models."""
        return self.models

    def expectation(self, measure: Measure) -> str:
        """Return the count or its bounds."""
        return bounds_text(self.at_least, self.at_most) if self.equals is None else number_text(self.equals)
