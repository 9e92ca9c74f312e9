"""A claim in short plain text: what it expects, and the names of its parts."""

from itertools import pairwise

from experiments.claims import (
    AccuracyClaim,
    Claim,
    ComparisonClaim,
    CurveClaim,
    ParametersClaim,
    SizeClaim,
)


def part_names(claim: Claim) -> tuple[str, ...]:
    """What each of the claim's parts is, in the order of `quantities`."""
    match claim:
        case ParametersClaim():
            return claim.models
        case AccuracyClaim():
            return (claim.model,)
        case SizeClaim():
            return tuple(f"{a} / {b}" for a, b in claim.pairs)
        case ComparisonClaim():
            return tuple(f"{a} - {b}" for a, b in claim.pairs)
        case CurveClaim():
            steps = [f"{after} - {before}" for before, after in pairwise(claim.models)]
            return tuple(steps) if claim.shape == "falling" else (f"({steps[0]}) - ({steps[-1]})",)


def describe(claim: Claim) -> str:
    """What is expected of each part, such as "<= 0.5 points", "88.41 +- 1.2" or "256,779"."""
    match claim:
        case ParametersClaim(equals=int(count)):
            return _number(count)
        case SizeClaim(ratio_above=float(ratio)):
            return f"> {_number(ratio)} times"
        case SizeClaim():
            return f"{_bounds(claim.ratio_at_least, claim.ratio_at_most)} times"
        case AccuracyClaim(published=float(published), tolerance=float(tolerance)):
            return f"{_number(published)} +- {_number(tolerance)}"
        case ComparisonClaim(above=float(points)):
            return f"> {_number(points)} points"
        case ComparisonClaim():
            return f"{_bounds(claim.at_least, claim.at_most)} points"
        case CurveClaim(shape="falling"):
            return f"each step <= {_number(claim.margin)} points"
        case CurveClaim():
            return f"the last step costs >= {_number(claim.margin)} points more than the first"
        case _:
            return _bounds(claim.at_least, claim.at_most)


def _bounds(lower: float | None, upper: float | None) -> str:
    if lower is None or upper is None:
        return f"<= {_number(upper)}" if lower is None else f">= {_number(lower)}"
    return f"{_number(lower)} to {_number(upper)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.12g}"
