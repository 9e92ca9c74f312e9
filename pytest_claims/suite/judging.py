"""Judges claims on whatever runs the store has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_claims.claims.claim import Claim, ClaimsError, Parts
from pytest_claims.claims.control import ControlClaim
from pytest_claims.recipes.measure import Measure
from pytest_claims.store import Store, StoredRun
from pytest_claims.suite.planning import Plan
from pytest_claims.suite.seed_counts import reached, wanted
from pytest_claims.suite.suite import Suite
from pytest_claims.verdicts.judging import Case, judge, judge_exact, judge_suite
from pytest_claims.verdicts.looks import Looks
from pytest_claims.verdicts.verdict import Judgement, Verdict


@dataclass(frozen=True)
class Finding:
    """What became of a claim.

    Attributes:
        claim: The claim.
        measure: What it is about.
        verdict: None if it could not be judged; of a control, *reproduced* where it holds.
        judgement: What was measured, and what that alone would say; None if runs are missing.
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
    seeds = reached(applicable, suite)
    plan = suite.plan(wanted(applicable, seeds))
    stored = suite.stored(plan)
    evidence: dict[str, _Evidence] = {}
    reasons: dict[str, str] = {}
    for claim in applicable:
        try:
            evidence[claim.id] = _evidence(claim, len(seeds[claim.id]), suite.store, plan, stored)
        except ClaimsError as error:
            reasons[claim.id] = str(error)
    judgements = _judge(applicable, evidence, suite)
    doubts = _doubts([claim for claim in applicable if isinstance(claim, ControlClaim)], judgements)

    def finding(claim: Claim) -> Finding:
        measure = suite.project.measures[claim.measure]
        if judgement := judgements.get(claim.id):
            doubt = next((doubt for control, doubt in doubts if _rests_on(claim, control)), "")
            verdict = Verdict.NOT_JUDGED if doubt else judgement.verdict
            return Finding(claim, measure, verdict, judgement, evidence[claim.id].runs, doubt)
        if claim.id in reasons:
            return Finding(claim, measure, None, None, {}, reasons[claim.id])
        reason = f"{claim.data} numbers are not judged on {suite.profile.data} data"
        return Finding(claim, measure, Verdict.NOT_APPLICABLE, None, {}, reason)

    return {claim.id: finding(claim) for claim in claims}


def _rests_on(claim: Claim, control: ControlClaim) -> bool:
    """Counts need no control: nothing about them is to be seen."""
    return not claim.exact and not claim.is_control and control.supports(claim.section, claim.id)


def _doubts(controls: Sequence[ControlClaim], judgements: Mapping[str, Judgement]) -> list[tuple[ControlClaim, str]]:
    """The controls that do not hold, and what that means for claims that rest on them."""
    doubts = []
    for control in controls:
        found = judgements.get(control.id)
        if found is None or found.verdict is not Verdict.REPRODUCED:
            how = "fails" if found and found.verdict is Verdict.REFUTED else "is not shown to hold"
            doubts.append((control, f"{control.id} {how}: this profile can't tell"))
    return doubts


def _judge(applicable: Iterable[Claim], evidence: Mapping[str, _Evidence], suite: Suite) -> dict[str, Judgement]:
    """Judge exact claims as they are, controls each by itself, and all others as a family."""
    judgements, statistical, family = {}, {}, 0
    for claim in applicable:
        family += not claim.exact and not claim.is_control
        if claim.id not in evidence:
            continue
        parts = evidence[claim.id].parts
        if claim.exact:
            judgements[claim.id] = judge_exact(parts, claim.region())
            continue
        step = suite.percent_of_an_image if suite.project.measures[claim.measure].counts_images else 0.0
        case = Case(parts, claim.region(), step, claim.equality())
        if isinstance(claim, ControlClaim):
            judgements[claim.id] = _judge_control(claim, case, suite.looks)
        else:
            statistical[claim.id] = case
    return judgements | judge_suite(statistical, family, suite.looks)


def _judge_control(control: ControlClaim, case: Case, looks: Looks | None) -> Judgement:
    judgement = judge(case, looks)
    seen = any(part.sd is not None for part in judgement.estimates)
    return replace(judgement, verdict=control.outcome(judgement.verdict) if seen else Verdict.INCONCLUSIVE)


def _evidence(claim: Claim, seeds: int, store: Store, plan: Plan, stored: Mapping[str, StoredRun]) -> _Evidence:
    """Gathers a claim's evidence.

    Raises:
        ClaimsError: A run is missing, and why; or a number that the claim is about.
    """
    keys = {model: plan.keys[model][: 1 if claim.exact else seeds] for model in claim.needed_models()}
    if missing := [key for model_keys in keys.values() for key in model_keys if key not in stored]:
        raise ClaimsError(_why_missing(missing, store, plan, stored))
    runs = {model: [stored[key] for key in model_keys] for model, model_keys in keys.items()}
    return _Evidence(runs, claim.quantities(lambda model, measure: [number(run, measure) for run in runs[model]]))


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
