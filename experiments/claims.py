"""What the report claims, as data: the schema of `expected_results.json`, and its meaning in measurements.

The file is `{"format": 1, "claims": [...]}`. A claim's `kind` says what its operands are and how they become
quantities, the claim's *parts*, all of which should lie in one region:

- `parameters`: each model's exact count.
- `size`: the ratio A / B of an exact size, for each pair of models.
- `accuracy`: one number of one model, over seeds.
- `comparison`: the difference A - B, paired by seed, for each pair of models.
- `curve`: what the steps along an ordered list of models do, paired by seed.

Importing this module needs only pydantic, so that collecting tests stays instant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from experiments.operands import (
    AccuracyMeasure,
    Count,
    ExactMeasure,
    Model,
    Pairs,
    Ratio,
    check_distinct,
    check_either,
    check_pairs,
)
from experiments.verdicts import Region, Verdict

Lookup: TypeAlias = Callable[[str, str], Sequence[float]]
"""(model name, measure) -> one number a seed, in seed order."""

Parts: TypeAlias = tuple[tuple[float, ...], ...]
"""For each part of a claim its samples, one a seed."""


class ClaimsError(ValueError):
    """The claims, or the measurements asked of them, cannot be used as they are."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Text = Annotated[str, Field(pattern=r"\S")]


class RecordedEstimate(_Entry):
    """One part as it was measured: `verdicts.Estimate`, with null for what a single seed does not tell."""

    mean: float
    sd: Annotated[float, Field(ge=0)] | None
    n: Annotated[int, Field(ge=1)]
    lower: float | None
    upper: float | None


class Recorded(_Entry):
    """The verdict that a profile gave when it was last recorded, and what it rested on, part by part.

    `numerics` tells the machine and the library that made it. Other numerics give other bits, and the same statistics.
    """

    verdict: Literal[Verdict.REPRODUCED, Verdict.REFUTED, Verdict.INCONCLUSIVE]
    numerics: Text | None = None
    estimates: tuple[RecordedEstimate, ...] = ()


class _Claim(_Entry):
    id: Annotated[str, Field(pattern=r"^q[1-4](-[a-z0-9]+)+$")]
    question: Annotated[int, Field(ge=1, le=4)]
    source: Text
    statement: Text
    note: Text | None = None
    data: Text | None = None
    recorded: Mapping[Text, Recorded] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_id(self) -> Self:
        if not self.id.startswith(f"q{self.question}-"):
            raise ValueError(f"question is {self.question}, so the id should start with 'q{self.question}-'")
        return self


class ParametersClaim(_Claim):
    """Each model's count equals a number, or lies within bounds (both included). Exact: one seed tells."""

    kind: Literal["parameters"]
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    measure: ExactMeasure = "parameters"
    equals: Count | None = None
    at_least: Count | None = None
    at_most: Count | None = None

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_distinct(self.models)
        check_either("equals", self.equals, "at_least", self.at_least, "at_most", self.at_most)
        return self


class SizeClaim(_Claim):
    """The ratio A / B of an exact size, for each pair [A, B], lies within bounds. Exact: one seed tells.

    `ratio_above` excludes its bound (above 1: A is larger, by whatever it may be); the other two include it.
    """

    kind: Literal["size"]
    measure: ExactMeasure
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


class AccuracyClaim(_Claim):
    """One number of one model is the published one within a tolerance, or lies within bounds.

    Unit: percent, but for `size_error_correlation`, which has none.
    """

    kind: Literal["accuracy"]
    model: Model
    measure: Literal["accuracy", "best_accuracy", "small_weight_share", "relative_error", "size_error_correlation"] = (
        "accuracy"
    )
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


class ComparisonClaim(_Claim):
    """The difference A - B, paired by seed, for each pair [A, B], lies within bounds. Unit: points.

    `above` excludes its bound (above 0: A is better); the other two include it.
    """

    kind: Literal["comparison"]
    measure: AccuracyMeasure = "accuracy"
    pairs: Pairs
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        check_pairs(self.pairs)
        check_either("above", self.above, "at_least", self.at_least, "at_most", self.at_most)
        return self


class CurveClaim(_Claim):
    """Accuracy along models in order, most parameters first. Unit of the margin: points.

    - `falling`: no step rises by more than `margin`; each step A[i+1] - A[i] is a part (non-inferiority).
    - `accelerating`: the last step costs at least `margin` more than the first; one contrast.
    """

    kind: Literal["curve"]
    shape: Literal["falling", "accelerating"]
    measure: AccuracyMeasure = "accuracy"
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


Claim: TypeAlias = ParametersClaim | SizeClaim | AccuracyClaim | ComparisonClaim | CurveClaim


class ExpectedResults(_Entry):
    """All of `expected_results.json`; ids are unique."""

    format: int
    claims: Annotated[tuple[Annotated[Claim, Field(discriminator="kind")], ...], Field(min_length=1)]

    @field_validator("format")
    @classmethod
    def _check_format(cls, number: int) -> int:
        if number != 1:
            raise ValueError("this version reads format 1")
        return number

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        first: dict[str, int] = {}
        for index, claim in enumerate(self.claims):
            if claim.id in first:
                raise ValueError(f"claims[{index}] repeats the id {claim.id!r} of claims[{first[claim.id]}]")
            first[claim.id] = index
        return self


@dataclass(frozen=True)
class Needs:
    """The models that a claim measures, each once; one seed tells all of an exact claim."""

    models: tuple[str, ...]
    every_seed: bool


def needs(claim: Claim) -> Needs:
    """Which models should be there before the claim can be judged."""
    match claim:
        case AccuracyClaim():
            models: tuple[str, ...] = (claim.model,)
        case SizeClaim() | ComparisonClaim():
            models = tuple(dict.fromkeys(model for pair in claim.pairs for model in pair))
        case _:
            models = claim.models
    return Needs(models, every_seed=not isinstance(claim, ParametersClaim | SizeClaim))


def counts_images(claim: Claim) -> bool:
    """Whether the claim's quantities are shares of the validation images: accuracies in percent, or differences."""
    return claim.measure in get_args(AccuracyMeasure)


def applies(claim: Claim, data: str) -> bool:
    """Whether the claim says anything about models trained on the data set `data`."""
    return claim.data in (None, data)


def region(claim: Claim) -> Region:
    """Where each of the claim's parts should lie, in the unit of `quantities`."""
    match claim:
        case ParametersClaim(equals=int(count)):
            return Region(count, count)
        case SizeClaim(ratio_above=float(bound)) | ComparisonClaim(above=float(bound)):
            return Region(lower=math.nextafter(bound, math.inf))
        case SizeClaim():
            return _region(claim.ratio_at_least, claim.ratio_at_most)
        case AccuracyClaim(published=float(published), tolerance=float(tolerance)):
            return Region(_unnoised(published - tolerance), _unnoised(published + tolerance))
        case CurveClaim(shape="falling"):
            return Region(upper=claim.margin)
        case CurveClaim():
            return Region(lower=claim.margin)
        case _:
            return _region(claim.at_least, claim.at_most)


def _region(lower: float | None, upper: float | None) -> Region:
    return Region(-math.inf if lower is None else lower, math.inf if upper is None else upper)


def quantities(claim: Claim, lookup: Lookup) -> Parts:
    """Turn measurements into the samples of each part of the claim.

    Args:
        claim: the claim.
        lookup: gives one number a seed for (model, measure). Numbers at one position belong to one seed: runs
            are compared within it, where they share data order and teacher.

    Returns:
        For each part its samples: counts, ratios, percent or points, as the claim's kind says.

    Raises:
        ClaimsError: the models were not measured on equally many seeds, or a ratio is by 0.
    """
    match claim:
        case ParametersClaim():
            return tuple(tuple(lookup(model, claim.measure)) for model in claim.models)
        case AccuracyClaim():
            return (tuple(lookup(claim.model, claim.measure)),)
        case SizeClaim():
            return tuple(
                tuple(_ratio(claim, pair, *counts) for counts in zip(*_by_seed(claim, lookup, pair), strict=True))
                for pair in claim.pairs
            )
        case ComparisonClaim():
            return tuple(_difference(*_by_seed(claim, lookup, pair)) for pair in claim.pairs)
        case CurveClaim():
            return _steps(claim, _by_seed(claim, lookup, claim.models))


def _by_seed(
    claim: SizeClaim | ComparisonClaim | CurveClaim, lookup: Lookup, models: Sequence[str]
) -> list[Sequence[float]]:
    measured = [lookup(model, claim.measure) for model in models]
    for model, values in zip(models, measured, strict=True):
        if len(values) != len(measured[0]):
            raise ClaimsError(
                f"{claim.id}: {model} has {claim.measure} of {len(values)} seeds, should have as many as "
                f"{models[0]}, {len(measured[0])}: the two are compared seed by seed"
            )
    return measured


def _ratio(claim: SizeClaim, pair: tuple[str, str], count: float, by: float) -> float:
    if by == 0:
        raise ClaimsError(f"{claim.id}: {pair[1]} has 0 {claim.measure}, should have more to be divided by")
    return count / by


def _difference(minuends: Sequence[float], subtrahends: Sequence[float]) -> tuple[float, ...]:
    return tuple(_unnoised(a - b) for a, b in zip(minuends, subtrahends, strict=True))


def _steps(claim: CurveClaim, measured: Sequence[Sequence[float]]) -> Parts:
    steps = tuple(_difference(after, before) for before, after in pairwise(measured))
    return steps if claim.shape == "falling" else (_difference(steps[0], steps[-1]),)


def _unnoised(value: float) -> float:
    """Decimal numbers' sums without binary noise: 88.4 - 87.9 is 0.5, on an edge of 0.5 and not beyond it."""
    return round(value, 9)
