"""What the report claims, as data: `expected_results.json` read, checked, and rewritten to record verdicts.

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

import difflib
import json
import math
import os
import reprlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from experiments.verdicts import Estimate, Judgement, Region, Verdict

MAX_BYTES = 4 * 2**20
"""A larger file is not read: all claims with their records take a few percent of this."""

LINE_WIDTH = 110

Lookup: TypeAlias = Callable[[str, str], Sequence[float]]
"""(model name, measure) -> one number a seed, in seed order."""

Parts: TypeAlias = tuple[tuple[float, ...], ...]
"""For each part of a claim its samples, one a seed."""


class ClaimsError(ValueError):
    """The claims, or the measurements asked of them, cannot be used as they are."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Text = Annotated[str, Field(pattern=r"\S")]
Model = Annotated[str, Field(pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$")]
Pairs = Annotated[tuple[tuple[Model, Model], ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(gt=0)]
ExactMeasure = Literal["parameters", "macs", "bytes"]
AccuracyMeasure = Literal["accuracy", "best_accuracy"]


class RecordedEstimate(_Entry):
    """One part as it was measured: `verdicts.Estimate`, with null for what a single seed does not tell."""

    mean: float
    sd: Annotated[float, Field(ge=0)] | None
    n: Annotated[int, Field(ge=1)]
    lower: float | None
    upper: float | None


class Recorded(_Entry):
    """The verdict that a profile gave when it was last recorded, and what it rested on, part by part."""

    verdict: Literal[Verdict.REPRODUCED, Verdict.REFUTED, Verdict.INCONCLUSIVE]
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
        _check_distinct(self.models)
        _check_either("equals", self.equals, "at_least", self.at_least, "at_most", self.at_most)
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
        _check_pairs(self.pairs)
        bounds = ("ratio_at_least", self.ratio_at_least, "ratio_at_most", self.ratio_at_most)
        _check_either("ratio_above", self.ratio_above, *bounds)
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
        _check_either("published", self.published, "at_least", self.at_least, "at_most", self.at_most)
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
        _check_pairs(self.pairs)
        _check_either("above", self.above, "at_least", self.at_least, "at_most", self.at_most)
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
        _check_distinct(self.models)
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


def _check_distinct(models: Sequence[str]) -> None:
    for index, model in enumerate(models):
        if model in models[:index]:
            raise ValueError(f"'models' names {model!r} twice; each should stand there once")


def _check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    for index, (first, second) in enumerate(pairs):
        if first == second:
            raise ValueError(f"pairs[{index}] compares {first!r} with itself; should be two models")
        if (first, second) in pairs[:index]:
            raise ValueError(f"'pairs' has [{first}, {second}] twice; each should stand there once")


def _check_either(
    name: str, value: float | None, low: str, lower: float | None, high: str, upper: float | None
) -> None:
    """`value` alone, or else bounds."""
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


def record(judgement: Judgement) -> Recorded:
    """What `--record` keeps of a judgement; numbers to four decimals, finer than any measurement.

    Raises:
        ClaimsError: the verdict is *not applicable*, of which there is no record.
    """
    if judgement.verdict is Verdict.NOT_APPLICABLE:
        raise ClaimsError("a claim that is not applicable was not measured, so there is nothing to record")
    return Recorded(verdict=judgement.verdict, estimates=tuple(map(_record_estimate, judgement.estimates)))


def _record_estimate(part: Estimate) -> RecordedEstimate:
    lower, upper = (round(end, 4) if math.isfinite(end) else None for end in (part.lower, part.upper))
    sd = None if part.sd is None else round(part.sd, 4)
    return RecordedEstimate(mean=round(part.mean, 4), sd=sd, n=part.n, lower=lower, upper=upper)


def with_recorded(results: ExpectedResults, profile: str, records: Mapping[str, Recorded]) -> ExpectedResults:
    """A copy in which the claims of `records` (id -> what to record) have it for `profile`; all else stays.

    Raises:
        ClaimsError: an id that no claim has.
    """
    ids = [claim.id for claim in results.claims]
    for name in records:
        if name not in ids:
            raise ClaimsError(f"no claim has the id {name!r}{_suggestion(name, ids)}")
    return results.model_copy(
        update={
            "claims": tuple(
                _with_record(claim, profile, records[claim.id]) if claim.id in records else claim
                for claim in results.claims
            )
        }
    )


def _with_record(claim: Claim, profile: str, recorded: Recorded) -> Claim:
    profiles = {**claim.recorded, profile: recorded}
    return claim.model_copy(update={"recorded": dict(sorted(profiles.items()))})


def check_models(results: ExpectedResults, known_names: Collection[str]) -> None:
    """Check that every model named by a claim is one of `known_names`.

    Raises:
        ClaimsError: the first that is not, with its claim and the names closest to it.
    """
    for index, claim in enumerate(results.claims):
        for model in needs(claim).models:
            if model not in known_names:
                raise ClaimsError(
                    f"claims[{index}] ({claim.id}): no recipe makes the model {model!r}"
                    f"{_suggestion(model, known_names)}"
                )


def _suggestion(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def load_claims(path: Path) -> ExpectedResults:
    """Read and check the claims.

    Args:
        path: a JSON file of at most `MAX_BYTES`.

    Raises:
        ClaimsError: the file cannot be read or breaks a rule; names the file, the entry, the field, the value
            and what would be right.
    """
    text = _read(path)
    document = _parse(path, text)
    try:
        return ExpectedResults.model_validate_json(text)
    except ValidationError as error:
        raise ClaimsError(f"{path}: {_explain(error, document)}") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ClaimsError(f"{path}: cannot be read, should be a JSON file of claims: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ClaimsError(f"{path}: has more than {MAX_BYTES:,} bytes, should be a file of claims, far smaller")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ClaimsError(f"{path}: byte {error.start} is not UTF-8, should be JSON in UTF-8") from None


def _parse(path: Path, text: str) -> object:
    """Python's parser, for line and column, and for the repeated keys and NaN that pydantic's lets pass."""
    try:
        return json.loads(text, object_pairs_hook=_unrepeated, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ClaimsError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ClaimsError(f"{path}: nested too deeply, should be an object of claims") from None
    except ValueError as error:
        raise ClaimsError(f"{path}: {error}") from None


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entry = dict(pairs)
    if len(entry) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        where = f" in the claim {entry['id']!r}" if "id" in entry else ""
        raise ValueError(f"the field {repeated!r} stands twice{where}; each should stand there once")
    return entry


def _refuse_constant(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON; should be a finite number")


_KINDS: Mapping[str, type[_Claim]] = {
    "parameters": ParametersClaim,
    "size": SizeClaim,
    "accuracy": AccuracyClaim,
    "comparison": ComparisonClaim,
    "curve": CurveClaim,
}


def _explain(error: ValidationError, document: Any) -> str:
    """The first error in our words: the entry, the field, its value and what would be right."""
    # A misspelt field is also a missing one; the spelling is the better news.
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    location, entry, known = list(first["loc"]), "", set(ExpectedResults.model_fields)
    if location[:1] == ["claims"] and len(location) > 1:
        given = document["claims"][location[1]]
        name = repr(given["id"])[:80].strip("'") if isinstance(given, dict) and "id" in given else "no id"
        entry = f"claims[{location[1]}] ({name}): "
        kind = _KINDS.get(str(location[2])) if len(location) > 2 else None
        location, known = location[3:] if kind else location[2:], set(kind.model_fields if kind else ())
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")
    match first["type"]:
        case "missing":
            reason = f"the field {field!r} is missing"
        case "extra_forbidden":
            rest = f"; the fields are {', '.join(sorted(known))}" if len(location) == 1 else ""
            reason = f"the field {field!r} is unknown{_suggestion(field, known) or rest}"
        case "union_tag_not_found":
            reason = f"the field 'kind' is missing, should be one of {', '.join(_KINDS)}"
        case "union_tag_invalid":
            reason = f"the field 'kind' is {reprlib.repr(given['kind'])}, should be one of {', '.join(_KINDS)}"
        case "json_invalid" | "value_error" if not field:
            reason = first["msg"].removeprefix("Value error, ")
        case _:
            problem = first["msg"].removeprefix("Value error, ")
            reason = f"{field or 'the content'} is {reprlib.repr(first['input'])}: {problem}"
    return entry + reason


def save_claims(results: ExpectedResults, path: Path) -> None:
    """Write the claims so that reading and writing again gives the same bytes.

    The file is replaced at once: a reader sees the old one or the new one, whatever happens in between.

    Raises:
        OSError: the file's folder cannot be written to; the file is then as it was.
    """
    claims = [_fields(claim) for claim in results.claims]
    text = _layout({"format": results.format, "claims": claims}) + "\n"
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


_FIRST_FIELDS = ("id", "question", "kind", "source", "statement", "note", "data")


def _fields(claim: Claim) -> dict[str, Any]:
    """What the file gave of the claim: who says what, the operands, and at the end what was recorded."""
    given = claim.model_dump(mode="json", exclude_unset=True)
    order = [*_FIRST_FIELDS, *(name for name in given if name != "recorded"), "recorded"]
    return {name: given[name] for name in dict.fromkeys(order) if name in given}


def _layout(value: Any, indent: str = "", before: int = 0) -> str:
    """JSON in which what fits in a line, after `before` characters of it, stands in one."""
    line = json.dumps(_whole(value), ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + before + len(line) < LINE_WIDTH:
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        keys = {key: f"{json.dumps(key, ensure_ascii=False)}: " for key in value}
        rows = [keys[key] + _layout(item, deeper, len(keys[key])) for key, item in value.items()]
        opening, closing = "{}"
    else:
        rows = [_layout(item, deeper) for item in value]
        opening, closing = "[]"
    body = ",\n".join(deeper + row for row in rows)
    return f"{opening}\n{body}\n{indent}{closing}"


def _whole(value: Any) -> Any:
    """Whole floats as integers, as a person writes them: pydantic reads 0 as 0.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value
