"""Small claims of each kind, as entries of a file and as they are read."""

import json
from collections.abc import Mapping
from pathlib import Path

from pytest_claims.claims.claim import Claim
from pytest_claims.claims.expected_results import ExpectedResults

HEAD = {"id": "q1-x", "section": "question 1", "source": "ours", "statement": "A is B."}
BODIES: Mapping[str, Mapping[str, object]] = {
    "control": {"kind": "control", "pairs": [["a", "b"]], "at_least": 3.0},
    "parameters": {"kind": "parameters", "models": ["a", "b"], "equals": 5},
    "size": {"kind": "size", "measure": "bytes", "pairs": [["a", "b"]], "ratio_at_least": 3.9},
    "accuracy": {"kind": "accuracy", "model": "a", "published": 88.41, "tolerance": 1.2},
    "comparison": {"kind": "comparison", "pairs": [["a", "b"], ["c", "b"]], "at_most": 0.5},
    "curve": {"kind": "curve", "shape": "falling", "models": ["a", "b", "c"], "margin": 0.5},
}


def entry(base: str, **changes: object) -> dict[str, object]:
    """An entry of the kind `base`; a field that is changed to `...` is left out."""
    given = {**HEAD, **BODIES[base], **changes}
    return {name: value for name, value in given.items() if value is not ...}


def results(*entries: dict[str, object]) -> ExpectedResults:
    return ExpectedResults.model_validate_json(json.dumps({"format": 1, "claims": entries}))


def claim(base: str, **changes: object) -> Claim:
    return results(entry(base, **changes)).claims[0]


def written(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text(json.dumps({"format": 1, "claims": entries}), encoding="utf-8")
    return path
