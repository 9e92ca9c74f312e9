"""Judges claims on whatever runs the store has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_claims.claims.claim import Claim, ClaimsError, Parts
from pytest_claims.recipes.measure import Measure
from pytest_claims.store import Store, StoredRun
from pytest_claims.suite.planning import Plan
from pytest_claims.suite.suite import Suite
from pytest_claims.verdicts.judging import Case, judge_exact, judge_suite
from pytest_claims.verdicts.verdict import Judgement, Verdict


@dataclass(frozen=True)
class Finding:
    """What became of a claim.

    Attributes:
        claim: The claim.
        measure: What it is about.
        verdict: None if it could not be judged.
        judgement: None if it was not judged.
        runs: The runs that it rests on, by model, one a seed.
        reason: Why it was not judged.
    """

    claim: Claim
    measure: Measure
    verdict: Verdict | None
    judgement: Judgement | None
    runs: Mapping[str, Sequence[StoredRun]]
    reason: str = ""


@dataclass(frozen=True)
class _Evidence:
    """What a claim is judged on: its runs, by model, and the samples of its parts."""

    runs: Mapping[str, Sequence[StoredRun]]
    parts: Parts


def judge_claims(claims: Iterable[Claim], suite: Suite) -> dict[str, Finding]:
    """Judges each claim whose runs are all in the store.

    Refutations are corrected over all of the claims that rest on seeds and apply to the profile's data, whether or
    not their runs are there; so give all of the suite's, and a verdict does not depend on which tests were selected.
    """
    claims = list(claims)
    applicable = [claim for claim in claims if claim.applies(suite.profile.data)]
    plan = suite.plan(wanted(applicable, suite.seeds))
    stored = suite.stored(plan)
    evidence: dict[str, _Evidence] = {}
    reasons: dict[str, str] = {}
    for claim in applicable:
        try:
            evidence[claim.id] = _evidence(claim, suite.store, plan, stored)
        except ClaimsError as error:
            reasons[claim.id] = str(error)
    judgements = _judge(applicable, evidence, suite)

    def finding(claim: Claim) -> Finding:
        measure = suite.project.measures[claim.measure]
        if judgement := judgements.get(claim.id):
            return Finding(claim, measure, judgement.verdict, judgement, evidence[claim.id].runs)
        if claim.id in reasons:
            return Finding(claim, measure, None, None, {}, reasons[claim.id])
        reason = f"{claim.data} numbers are not judged on {suite.profile.data} data"
        return Finding(claim, measure, Verdict.NOT_APPLICABLE, None, {}, reason)

    return {claim.id: finding(claim) for claim in claims}


def wanted(claims: Iterable[Claim], seeds: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The seeds of each model that claims need: all, or the first where all claims on it are exact."""
    wanted: dict[str, tuple[int, ...]] = {}
    for claim in claims:
        for model in claim.needed_models():
            needed = tuple(seeds[:1]) if claim.exact else tuple(seeds)
            wanted[model] = max(wanted.get(model, ()), needed, key=len)
    return wanted


def _judge(applicable: Iterable[Claim], evidence: Mapping[str, _Evidence], suite: Suite) -> dict[str, Judgement]:
    exact, statistical, family = {}, {}, 0
    for claim in applicable:
        family += not claim.exact
        if claim.id not in evidence:
            continue
        parts = evidence[claim.id].parts
        if claim.exact:
            exact[claim.id] = judge_exact(parts, claim.region())
        else:
            counts_images = suite.project.measures[claim.measure].counts_images
            step = suite.percent_of_an_image if counts_images else 0.0
            statistical[claim.id] = Case(parts, claim.region(), step, claim.equality())
    return exact | judge_suite(statistical, family)


def _evidence(claim: Claim, store: Store, plan: Plan, stored: Mapping[str, StoredRun]) -> _Evidence:
    """Gathers a claim's evidence.

    Raises:
        ClaimsError: A run is missing, and why; or a number that the claim is about.
    """
    keys = {model: _needed_keys(claim, model, plan) for model in claim.needed_models()}
    if missing := [key for model_keys in keys.values() for key in model_keys if key not in stored]:
        raise ClaimsError(_why_missing(missing, store, plan, stored))
    runs = {model: [stored[key] for key in model_keys] for model, model_keys in keys.items()}
    return _Evidence(runs, claim.quantities(lambda model, measure: [number(run, measure) for run in runs[model]]))


def _needed_keys(claim: Claim, model: str, plan: Plan) -> tuple[str, ...]:
    """The runs of one of a claim's models: of every seed, or of the first for an exact claim."""
    keys = plan.keys[model]
    return keys[:1] if claim.exact else keys


def number(run: StoredRun, measure: str) -> float:
    """Return a measurement of a run.

    Raises:
        ClaimsError: It has none of this name.
    """
    try:
        return run.measurements[measure]
    except KeyError:
        known = ", ".join(sorted(run.measurements))
        raise ClaimsError(f"{run.provenance.get('name')} has no {measure!r}, should be one of {known}") from None


def _why_missing(missing: Sequence[str], store: Store, plan: Plan, stored: Mapping[str, StoredRun]) -> str:
    """The failure of one of the missing runs, or of one that they are made from."""
    waiting = list(missing)
    for key in waiting:
        if failure := store.failure(key):
            return f"{failure.message} (--retry-failed makes it again)"
        waiting += [parent for parent in plan.runs[key].parents.values() if parent not in stored]
    return f"run {plan.runs[missing[0]].run.title} is not in the store"
