"""The committed claims and one more, judged on made-up numbers, as fixtures of whatever shows or plots findings."""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from our_project import OURS, make_finding

from pytest_claims.claims.claim import Claim
from pytest_claims.claims.comparison import ComparisonClaim
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.plugin.session import ClaimSession
from pytest_claims.report.accuracies import MeasuredModel, measured_models
from pytest_claims.report.conditions import Conditions
from pytest_claims.report.measured_models import runs_by_model
from pytest_claims.store import StoredRun
from pytest_claims.suite.judging import Finding
from pytest_claims.suite.suite import SuiteOptions
from pytest_claims.verdicts.judging import Case, judge_exact, judge_suite
from pytest_claims.verdicts.verdict import Verdict

__all__ = ["claims", "conditions", "findings", "judged", "make_run", "models", "our_session"]

# Accuracy in percent, parameters and bytes of each parameter.
SIZES = {
    "resnet18": (None, 11_182_155, 4),
    "student": (None, 256_779, 4),
    "conv-twin": (None, 2_168_203, 4),
    "conv-student-a": (None, 2_233_995, 4),
    "conv-student-b": (None, 2_233_995, 4),
    "question4-ordinary": (None, 249_000, 4),
    "question4-depthwise": (None, 250_500, 4),
    "question4-group": (None, 251_000, 4),
    "teacher-scratch": (80.1, 11_182_155, 4),
    "teacher-finetuned": (88.4, 11_182_155, 4),
    "teacher-finetuned-8bit": (88.3, 11_182_155, 1),
    "student-scratch": (78.2, 256_779, 4),
    "student-distilled-scratch": (79.8, 256_779, 4),
    "student-distilled-finetuned": (80.4, 256_779, 4),
    "student-distilled-finetuned-16bit": (80.4, 256_779, 2),
    "student-distilled-finetuned-8bit": (80.2, 256_779, 1),
    "conv-student-distilled": (82.7, 2_233_995, 4),
    "cnn-ordinary": (76.9, 249_000, 4),
    "cnn-depthwise": (77.0, 250_500, 4),
    "cnn-group": (71.6, 251_000, 4),
    "cnn-ordinary-small": (74.0, 124_000, 4),
    "cnn-pruned-random": (61.0, 124_000, 4),
    "cnn-pruned-random-tuned": (73.0, 124_000, 4),
    "cnn-pruned-signed-gamma": (66.0, 124_000, 4),
    "cnn-pruned-signed-gamma-tuned": (75.4, 124_000, 4),
    "cnn-pruned-signed-gamma-taught": (75.9, 124_000, 4),
    "cnn-pruned-filter-norm": (65.0, 124_000, 4),
    "cnn-pruned-taylor": (67.0, 124_000, 4),
    "cnn-low-rank-uniform": (70.0, 123_500, 4),
    "cnn-low-rank-uniform-tuned": (72.0, 123_500, 4),
    "cnn-low-rank-allocated": (75.0, 124_500, 4),
    "cnn-low-rank-allocated-tuned": (75.5, 124_500, 4),
    "cnn-grouped-fitted": (71.0, 125_000, 4),
    "cnn-grouped-fitted-tuned": (73.9, 125_000, 4),
    "cnn-grouped-random": (58.0, 125_000, 4),
    "cnn-grouped-random-tuned": (66.0, 125_000, 4),
    "cnn-separable-fitted": (50.0, 32_000, 4),
    "cnn-separable-fitted-tuned": (72.0, 32_000, 4),
    "cnn-separable-random": (41.0, 32_000, 4),
    "cnn-separable-random-tuned": (56.0, 32_000, 4),
    "cnn-pruned-sixteenth-tuned": (63.0, 14_500, 4),
    "cnn-low-rank-sixteenth-tuned": (70.0, 14_500, 4),
    "cnn-2bit-tuned": (75.0, 14_500, 4),
    "cnn-composed-packed": (75.6, 14_500, 4),
    "teacher-packed": (88.1, 1_090_000, 4),
    "student-packed": (80.3, 264_000, 1),
}
PRUNED_PARAMETERS = {
    0.95: (236_066, 217_850, 200_354, 185_091, 171_606),
    0.9: (216_518, 183_578, 156_084, 132_858, 114_810),
}
PRUNED_ACCURACY = {
    (0.95, "bn"): (79.9, 78.5, 76.7, 73.9, 71.0),
    (0.9, "bn"): (78.3, 74.1, 67.9, 59.9, 52.1),
    (0.95, "tuned"): (80.3, 80.1, 79.8, 79.6, 79.4),
    (0.9, "tuned"): (80.0, 80.4, 79.0, 78.4, 77.7),
}
WEIGHT_MEASURES = {"small_weight_share": 99.6, "relative_error": 1.3, "size_error_correlation": -0.41}


NO_DIFFERENCE = ComparisonClaim(
    id="q4-8bit-better",
    section="question 4",
    kind="comparison",
    source="nobody",
    statement="Rounding weights to 8 bits makes a network more accurate.",
    pairs=(("teacher-finetuned-8bit", "teacher-finetuned"),),
    above=0.0,
    equal_within=1.5,
)
"""Made up, so that some claim is practically equal."""


def measurements(model: str, seed: int) -> dict[str, float]:
    accuracy, parameters, width = _size(model)
    noise = random.Random(f"{model} {seed}").gauss(0, 0.45)
    measured: dict[str, float] = {"parameters": parameters, "macs": 38 * parameters, "bytes": parameters * width + 2000}
    if model == "conv-twin":
        measured["macs"] *= 2
    if accuracy is not None:
        measured |= {"accuracy": accuracy + noise, "best_accuracy": accuracy + abs(noise)}
    if model == "teacher-finetuned-8bit":
        measured |= {name: value + noise / 10 for name, value in WEIGHT_MEASURES.items()}
    return measured


def _size(model: str) -> tuple[float | None, int, int]:
    if model in SIZES:
        return SIZES[model]
    kind, rate, step, *protocol = model.split("-")
    parameters = PRUNED_PARAMETERS[float(rate)][int(step) - 1]
    accuracy = PRUNED_ACCURACY[float(rate), protocol[0]][int(step) - 1] if kind == "pruned" else None
    return accuracy, parameters, 4


def stored_run(model: str, seed: int) -> StoredRun:
    key = hashlib.sha256(f"{model} {seed}".encode()).hexdigest()
    return StoredRun(key, Path("runs") / key, measurements(model, seed), {"name": model, "seed": seed})


def judge_all(claims: tuple[Claim, ...], seeds: tuple[int, ...], data: str) -> dict[str, Finding]:
    applicable = [claim for claim in claims if claim.applies(data)]
    runs = {claim.id: claim_runs(claim, seeds) for claim in applicable}
    parts = {
        claim.id: claim.quantities(lambda model, name, of=runs[claim.id]: [run.measurements[name] for run in of[model]])
        for claim in applicable
    }
    statistical = {c.id: Case(parts[c.id], c.region(), equality=c.equality()) for c in applicable if not c.exact}
    judgements = judge_suite(statistical, len(statistical))
    judgements |= {c.id: judge_exact(parts[c.id], c.region()) for c in applicable if c.exact}
    return {
        claim.id: make_finding(claim, judgements[claim.id].verdict, judgements[claim.id], runs[claim.id])
        if claim.id in judgements
        else make_finding(
            claim, Verdict.NOT_APPLICABLE, None, {}, f"{claim.data} numbers are not judged on {data} data"
        )
        for claim in claims
    }


def claim_runs(claim: Claim, seeds: tuple[int, ...]) -> Mapping[str, list[StoredRun]]:
    used = seeds if not claim.exact else seeds[:1]
    return {model: [stored_run(model, seed) for seed in used] for model in claim.needed_models()}


@pytest.fixture(scope="session")
def our_session() -> ClaimSession:
    """Of claims and recipes alone: nothing is looked for in the store."""
    return ClaimSession(ROOT / "expected_results.json", SuiteOptions(OURS, "default", Path("no store")))


@pytest.fixture(scope="session")
def claims(our_session: ClaimSession) -> tuple[Claim, ...]:
    return (*our_session.claims, NO_DIFFERENCE)


@pytest.fixture(scope="session")
def judged(claims: tuple[Claim, ...]) -> Callable[..., dict[str, Finding]]:
    def judge(seeds: int = 5, data: str = "fractal") -> dict[str, Finding]:
        return judge_all(claims, tuple(range(seeds)), data)

    return judge


@pytest.fixture(scope="session")
def findings(judged: Callable[..., dict[str, Finding]]) -> dict[str, Finding]:
    return judged()


@pytest.fixture(scope="session")
def make_run() -> Callable[[str, int], StoredRun]:
    return stored_run


@pytest.fixture(scope="session")
def conditions(our_session: ClaimSession) -> Conditions:
    return replace(our_session.conditions, numerics="torch 2.14.1, cpu, x86_64 avx2, 1 thread")


@pytest.fixture(scope="session")
def models(findings: dict[str, Finding], conditions: Conditions) -> dict[str, MeasuredModel]:
    return measured_models(runs_by_model(findings), conditions.outline.families)
