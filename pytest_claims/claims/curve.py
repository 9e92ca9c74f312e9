"""Claims on what a measure does along a list of models, over seeds."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pytest_claims.claims.claim import Claim, Lookup, Parts, by_seed, difference_unit, differences, number_text
from pytest_claims.claims.operands import Model, check_distinct
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region


class CurveClaim(Claim):
    """A measure along models in order, such as from most parameters to fewest. Unit of the margin: of percent, points.

    - `falling`: no step rises by more than `margin`; each step A[i+1] - A[i] is a part (non-inferiority).
    - `accelerating`: the last step costs at least `margin` more than the first; one contrast.
    """

    kind: Literal["curve"]
    shape: Literal["falling", "accelerating"]
    models: Annotated[tuple[Model, ...], Field(min_length=2)]
    margin: float

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_distinct(self.models)
        if self.shape == "falling" and self.margin < 0:
            raise ValueError(f"the margin of a falling curve is {self.margin:g}, should be 0 or more points")
        if self.shape == "accelerating" and len(self.models) < 3:
            raise ValueError("an accelerating curve has two steps to compare, so 'models' should be 3 or more")
        return self

    def needed_models(self) -> tuple[str, ...]:
        """Return all models."""
        return self.models

    def region(self) -> Region:
        """Return the steps that are allowed, or by how much the last one may differ from the first."""
        return Region(upper=self.margin) if self.shape == "falling" else Region(lower=self.margin)

    def quantities(self, lookup: Lookup) -> Parts:
        """Return the steps, or their contrast."""
        steps = tuple(differences(after, before) for before, after in pairwise(by_seed(self, lookup, self.models)))
        return steps if self.shape == "falling" else (differences(steps[0], steps[-1]),)

    def part_names(self) -> tuple[str, ...]:
        """Return the steps as differences, or their contrast."""
        steps = [f"{after} - {before}" for before, after in pairwise(self.models)]
        return tuple(steps) if self.shape == "falling" else (f"({steps[0]}) - ({steps[-1]})",)

    def expectation(self, measure: Measure) -> str:
        """Return what the steps should do."""
        margin = f"{number_text(self.margin)}{self.unit(measure)}"
        if self.shape == "falling":
            return f"each step <= {margin}"
        return f"the last step costs >= {margin} more than the first"

    def unit(self, measure: Measure) -> str:
        """Return the unit of a difference."""
        return difference_unit(measure)
