"""The file of claims: read, or refused with one clear error, given what was recorded, and written back."""

import difflib
import json
import math
import re
import reprlib
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_claims.basics.atomic_file import replacing
from pytest_claims.claims.claim import Claim, ClaimsError, Recorded, RecordedEstimate
from pytest_claims.claims.expected_results import KINDS, AnyClaim, ExpectedResults
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.estimates import Estimate
from pytest_claims.verdicts.verdict import Judgement, Verdict

MAX_BYTES = 4 * 2**20
"""A larger file is not read: all claims with their records take a few percent of this."""

LINE_WIDTH = 110


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


def _explain(error: ValidationError, document: Any) -> str:
    """The first error in our words: the entry, the field, its value and what would be right."""
    # A misspelt field is also a missing one; the spelling is the better news.
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    location, entry, known = list(first["loc"]), "", set(ExpectedResults.model_fields)
    if location[:1] == ["claims"] and len(location) > 1:
        given = document["claims"][location[1]]
        name = repr(given["id"])[:80].strip("'") if isinstance(given, dict) and "id" in given else "no id"
        entry = f"claims[{location[1]}] ({name}): "
        kind = KINDS.get(str(location[2])) if len(location) > 2 else None
        location, known = location[3:] if kind else location[2:], set(kind.model_fields if kind else ())
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")
    match first["type"]:
        case "missing":
            reason = f"the field {field!r} is missing"
        case "extra_forbidden":
            rest = f"; the fields are {', '.join(sorted(known))}" if len(location) == 1 else ""
            reason = f"the field {field!r} is unknown{_suggestion(field, known) or rest}"
        case "union_tag_not_found":
            reason = f"the field 'kind' is missing, should be one of {', '.join(KINDS)}"
        case "union_tag_invalid":
            reason = f"the field 'kind' is {reprlib.repr(given['kind'])}, should be one of {', '.join(KINDS)}"
        case "json_invalid" | "value_error" if not field:
            reason = first["msg"].removeprefix("Value error, ")
        case _:
            # Of an enumeration pydantic gives Python's spelling: <Verdict.REFUTED: 'refuted'>.
            problem = re.sub(r"<\w+\.\w+: ('[^']*')>", r"\1", first["msg"].removeprefix("Value error, "))
            reason = f"{field or 'the content'} is {reprlib.repr(first['input'])}: {problem}"
    return entry + reason


def check_names(
    results: ExpectedResults,
    models: Collection[str],
    measures: Mapping[str, Measure],
    data: Collection[str],
    profiles: Collection[str],
) -> None:
    """Check that what claims name is there: models, measures, data, and the profiles that they have records of.

    Raises:
        ClaimsError: the first that is not, with its claim and the names closest to it.
    """
    for index, claim in enumerate(results.claims):
        named = [("no recipe makes the model", model, models) for model in claim.needed_models()]
        named += [("no such measure is known", claim.measure, measures)]
        named += [("no profile has the data", claim.data, data)] if claim.data is not None else []
        named += [("it is recorded for the profile", profile, profiles) for profile in claim.recorded]
        for what, name, known in named:
            if name not in known:
                # Of models there are too many to list.
                rest = "" if known is models else f", must be one of {', '.join(known)}"
                raise ClaimsError(f"claims[{index}] ({claim.id}): {what} {name!r}{_suggestion(name, known) or rest}")
        if claim.exact and not measures[claim.measure].exact:
            raise ClaimsError(
                f"claims[{index}] ({claim.id}): {claim.measure!r} differs from seed to seed, a claim of kind "
                f"{claim.kind!r} should be about an exact measure, such as 'parameters'"
            )


def _suggestion(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def record(judgement: Judgement, numerics: str) -> Recorded:
    """What `--record` keeps of a judgement; numbers to four decimals, finer than any measurement.

    Args:
        judgement: What was found.
        numerics: The machine and the library that the measurements were made with, in one line.

    Raises:
        ClaimsError: the claim was not judged.
    """
    if judgement.verdict in (Verdict.NOT_APPLICABLE, Verdict.NOT_JUDGED):
        raise ClaimsError("a claim that was not judged has nothing to record")
    estimates = tuple(map(_record_estimate, judgement.estimates))
    return Recorded(verdict=judgement.verdict, numerics=numerics, estimates=estimates)


def _record_estimate(part: Estimate) -> RecordedEstimate:
    lower, upper = (round(end, 4) if math.isfinite(end) else None for end in (part.lower, part.upper))
    sd = None if part.sd is None else round(part.sd, 4)
    of_interval = {} if sd is None else {"confidence": round(part.confidence, 9)}
    return RecordedEstimate(mean=round(part.mean, 4), sd=sd, n=part.n, lower=lower, upper=upper, **of_interval)


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


def _with_record(claim: AnyClaim, profile: str, recorded: Recorded) -> AnyClaim:
    profiles = {**claim.recorded, profile: recorded}
    return claim.model_copy(update={"recorded": dict(sorted(profiles.items()))})


def save_claims(results: ExpectedResults, path: Path) -> None:
    """Write the claims so that reading and writing again gives the same bytes.

    The file is replaced at once: a reader sees the old one or the new one, whatever happens in between.

    Raises:
        OSError: the file's folder cannot be written to; the file is then as it was.
    """
    claims = [_fields(claim) for claim in results.claims]
    head = results.model_dump(mode="json", exclude_unset=True, exclude={"claims"}, by_alias=True)
    text = _layout({**head, "claims": claims}) + "\n"
    target = path.resolve()
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        if target.exists():
            shutil.copymode(target, temporary)


_FIRST_FIELDS = ("id", "section", "kind", "source", "statement", "note", "data")


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
