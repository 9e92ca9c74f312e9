"""What claims are made over: models, pairs of them, measures and bounds, with the rules that these keep to."""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from pytest_claims.verdicts.region import Region, equality_region

Model = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$")]
Pairs = Annotated[tuple[tuple[Model, Model], ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]  # beyond, not every count is a float
Ratio = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(pattern=r"\S")]
MeasureName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def check_distinct(models: Sequence[str]) -> None:
    """Check that a list of models has each once.

    Raises:
        ValueError: names the first that repeats.
    """
    for index, model in enumerate(models):
        if model in models[:index]:
            raise ValueError(f"'models' names {model!r} twice; each should stand there once")


def check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Check that each pair is of two models, and stands there once.

    Raises:
        ValueError: names the first pair that does not.
    """
    for index, (first, second) in enumerate(pairs):
        if first == second:
            raise ValueError(f"pairs[{index}] compares {first!r} with itself; should be two models")
        if (first, second) in pairs[:index]:
            raise ValueError(f"'pairs' has [{first}, {second}] twice; each should stand there once")


def check_either(name: str, value: float | None, low: str, lower: float | None, high: str, upper: float | None) -> None:
    """Check that a claim gives either `value`, or one or both of the bounds, the lower below the upper.

    Args:
        name: the value's field.
        value: None if not given.
        low: the lower bound's field.
        lower: None if not given.
        high: the upper bound's field.
        upper: None if not given.

    Raises:
        ValueError: nothing is given, both ways are, or the bounds cross.
    """
    if value is None and lower is None and upper is None:
        raise ValueError(f"nothing is asked: give {name!r}, or {low!r} or {high!r}")
    if value is None:
        _check_bounds(low, lower, high, upper)
    elif lower is not None or upper is not None:
        raise ValueError(f"{name!r} stands beside {low!r} or {high!r}; should be one way or the other")


def _check_bounds(low: str, lower: float | None, high: str, upper: float | None) -> None:
    if lower is None and upper is None:
        raise ValueError(f"nothing is asked: give {low!r} or {high!r}")
    if lower is not None and upper is not None and lower >= upper:
        raise ValueError(f"{low!r} is {lower:g}, should be below {high!r}, {upper:g}")


def check_equal_within(margin: float | None, region: Region) -> None:
    """Check that a margin of equality can make a difference to a claim.

    Args:
        margin: None if not given.
        region: what the claim allows.

    Raises:
        ValueError: the margin is not positive, it allows nothing that the claim does not, or the claim allows no more.
    """
    if margin is None:
        return
    equal = equality_region(margin)
    if region.contains(equal.lower, equal.upper):
        raise ValueError(f"'equal_within' is {margin:g}, and all that lies within is allowed; should be left out")
    if equal.contains(region.lower, region.upper):
        raise ValueError(f"'equal_within' is {margin:g}, and no more is allowed anyway; should be left out")


def models_of_pairs(pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the models of pairs, each once, in order."""
    return tuple(dict.fromkeys(model for pair in pairs for model in pair))


def region_between(lower: float | None, upper: float | None) -> Region:
    """Return the region between bounds, of which one may be missing; both are included."""
    return Region(-math.inf if lower is None else lower, math.inf if upper is None else upper)


def open_region(bound: float) -> Region:
    """Return the region above a bound, which is not in it."""
    return Region(lower=math.nextafter(bound, math.inf))
