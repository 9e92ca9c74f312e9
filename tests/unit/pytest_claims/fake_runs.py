"""Runs that were never trained, with numbers under which each claim of a small file has the verdict it names."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from our_project import OURS
from safetensors.numpy import save_file

from pytest_claims.claims.expected_results import ExpectedResults
from pytest_claims.datasets.preparation import PreparedData
from pytest_claims.suite.planning import Plan
from pytest_claims.suite.seed_counts import fixed, wanted
from pytest_claims.suite.suite import Suite, SuiteOptions

Measure = Callable[[str, int], Mapping[str, float]]
"""(model, seed) -> measurements."""

ACCURACY: Mapping[str, tuple[float, ...]] = {
    "teacher-scratch": (80.0, 80.1, 80.3),
    "teacher-finetuned": (88.0, 88.2, 88.2),
    "student-scratch": (78.0, 78.1, 78.3),
    "student-distilled-scratch": (60.0, 60.2, 60.2),
    "cnn-depthwise": (70.0, 74.0, 75.0),
    "cnn-ordinary": (71.0, 72.0, 71.0),
    "student-distilled-finetuned": (80.0, 80.1, 80.3),
    "pruned-0.95-1-bn": (70.0, 70.2, 70.2),
    "pruned-0.95-2-bn": (60.0, 60.1, 60.3),
}
"""Of seeds 0, 1, 2."""

PARAMETERS = {"resnet18": 11_182_155, "student": 256_779}


def claim(id_: str, kind: str, **operands: object) -> dict[str, object]:
    question = int(id_[1])
    return {
        "id": id_,
        "section": f"question {question}",
        "kind": kind,
        "source": "ours",
        "statement": f"{id_}.",
        **operands,
    }


CLAIMS = (
    claim("q2-control", "control", pairs=[["teacher-finetuned", "teacher-scratch"]], at_least=3),
    claim("q1-precision", "accuracy", model="teacher-finetuned-8bit", measure="relative_error", at_most=5),
    claim("q2-teacher-parameters", "parameters", models=["resnet18"], equals=11182155),
    claim("q2-student-smaller", "size", measure="parameters", pairs=[["resnet18", "student"]], ratio_above=1),
    claim("q2-reproduced", "comparison", pairs=[["teacher-finetuned", "teacher-scratch"]], at_least=0),
    claim("q2-refuted", "comparison", pairs=[["student-distilled-scratch", "student-scratch"]], at_least=0),
    claim("q2-published", "accuracy", model="teacher-scratch", published=80.09, tolerance=2.4, data="food-11"),
    claim(
        "q3-falls",
        "curve",
        shape="falling",
        models=["student-distilled-finetuned", "pruned-0.95-1-bn", "pruned-0.95-2-bn"],
        margin=0.5,
    ),
    claim("q4-inconclusive", "comparison", pairs=[["cnn-depthwise", "cnn-ordinary"]], at_least=0),
    claim("q4-equal", "comparison", pairs=[["teacher-finetuned", "teacher-scratch"]], above=8, equal_within=9),
)
VERDICTS = {
    "q2-control": "reproduced",
    "q1-precision": "reproduced",
    "q2-teacher-parameters": "reproduced",
    "q2-student-smaller": "reproduced",
    "q2-reproduced": "reproduced",
    "q2-refuted": "refuted",
    "q2-published": "not applicable",
    "q3-falls": "reproduced",
    "q4-inconclusive": "inconclusive",
    "q4-equal": "practically equal",
}

CLOSE = (
    claim("q2-decided", "comparison", pairs=[["teacher-scratch", "student-scratch"]], above=-50),
    claim("q4-close", "comparison", pairs=[["cnn-depthwise", "cnn-ordinary"]], above=-2.5),
    claim("q4-wrong", "comparison", pairs=[["cnn-depthwise", "cnn-ordinary"]], above=6),
    claim("q4-hopeless", "comparison", pairs=[["cnn-group", "cnn-ordinary"]], above=0.55),
)
"""On `noisy` runs two seeds decide the first alone, and more all but the last."""

NOISE = (0.0, 1.0, 0.4, 0.7, 0.1, 0.8, 0.3, 0.9)
"""Of a seed."""


def results(claims: Iterable[Mapping[str, object]] = CLAIMS) -> ExpectedResults:
    return ExpectedResults.model_validate_json(json.dumps({"format": 1, "claims": list(claims)}))


def measurements(model: str, seed: int) -> dict[str, float]:
    measured: dict[str, float] = {"parameters": PARAMETERS.get(model, 1000), "macs": 5000}
    if model in ACCURACY:
        measured |= {"accuracy": ACCURACY[model][seed], "best_accuracy": ACCURACY[model][seed]}
    if model == "teacher-finetuned-8bit":
        measured |= {"relative_error": 1.0 + seed / 100, "accuracy": 88.0, "best_accuracy": 88.0}
    return measured


def noisy(model: str, seed: int) -> dict[str, float]:
    return {"accuracy": 80.0 + (model in ("teacher-scratch", "cnn-depthwise", "cnn-group")) * NOISE[seed % len(NOISE)]}


def tiny_suite(store: Path, seeds: tuple[int, ...] | None = None, **options: Any) -> Suite:
    return Suite(SuiteOptions(OURS, "tiny", store, seeds, **options))


def suite_without_data(store: Path, seeds: tuple[int, ...] | None = None, **options: Any) -> Suite:
    """A suite that can plan and judge, but make nothing that is trained."""
    suite = tiny_suite(store, seeds, **options)
    suite.data = lambda role, seed: PreparedData(store / role, role)
    suite.percent_of_an_image = 0.05
    return suite


def fill(suite: Suite, models: Mapping[str, Sequence[int]], measure: Measure = measurements) -> Plan:
    """Stores the models' runs and all that they would be made from."""
    plan = suite.plan(models)
    for key, planned in plan.runs.items():
        run = planned.run
        provenance = {"name": run.name, "seed": run.seed, "seconds": 1.0}
        suite.store.save(key, save_weights, measure(run.name, run.seed), "epoch\n", provenance)
    return plan


def save_weights(path: Path) -> None:
    save_file({"weight": np.zeros(4, np.float32)}, path)


def fill_for_claims(suite: Suite, claims: Iterable[Mapping[str, object]] = CLAIMS) -> Plan:
    applicable = [claim for claim in results(claims).claims if claim.applies(suite.profile.data)]
    return fill(suite, wanted(applicable, fixed(applicable, suite)))
