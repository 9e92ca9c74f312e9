"""Judges claims on whatever runs the store has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.claims import Claim, Parts, applies, needs, quantities, region
from experiments.planning import Plan
from experiments.store import StoredRun
from experiments.suite import Suite
from experiments.verdicts import Judgement, Verdict, judge_exact, judge_suite


@dataclass(frozen=True)
class Finding:
    """What became of a claim.

    Attributes:
        claim: The claim.
        verdict: None if it could not be judged.
        judgement: None if it was not judged.
        runs: The runs that it rests on, by model, one a seed.
        reason: Why it was not judged.
    """

    claim: Claim
    verdict: Verdict | None
    judgement: Judgement | None
    runs: Mapping[str, Sequence[StoredRun]]
    reason: str = ""


def judge_claims(claims: Iterable[Claim], suite: Suite) -> dict[str, Finding]:
    """Judges each claim whose runs are all in the store.

    Refutations are corrected over all of the claims that rest on seeds and apply to the profile's data, whether or
    not their runs are there; so give all of the suite's, and a verdict does not depend on which tests were selected.
    """
    claims = list(claims)
    applicable = [claim for claim in claims if applies(claim, suite.profile.data)]
    plan = suite.plan(wanted(applicable, suite.seeds))
    stored = suite.stored(plan)
    made = {claim.id: runs for claim in applicable if (runs := _runs(claim, plan, stored)) is not None}
    judgements = _judge_made([claim for claim in applicable if claim.id in made], applicable, made)
    findings = {}
    for claim in claims:
        if claim not in applicable:
            reason = f"{claim.data} numbers are not judged on {suite.profile.data} data"
            findings[claim.id] = Finding(claim, Verdict.NOT_APPLICABLE, None, {}, reason)
        elif claim.id in made:
            judgement = judgements[claim.id]
            findings[claim.id] = Finding(claim, judgement.verdict, judgement, made[claim.id])
        else:
            findings[claim.id] = Finding(claim, None, None, {}, why_not_made(claim, suite, plan, stored))
    return findings


def wanted(claims: Iterable[Claim], seeds: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The seeds of each model that claims need: all, or the first where all claims on it are exact."""
    wanted: dict[str, tuple[int, ...]] = {}
    for claim in claims:
        for model in needs(claim).models:
            needed = tuple(seeds) if needs(claim).every_seed else tuple(seeds[:1])
            wanted[model] = max(wanted.get(model, ()), needed, key=len)
    return wanted


def _judge_made(
    made: Sequence[Claim], applicable: Sequence[Claim], runs: Mapping[str, Mapping[str, Sequence[StoredRun]]]
) -> dict[str, Judgement]:
    parts = {claim.id: _parts(claim, runs[claim.id]) for claim in made}
    statistical = {c.id: (parts[c.id], region(c)) for c in made if needs(c).every_seed}
    exact = {c.id: judge_exact(parts[c.id], region(c)) for c in made if not needs(c).every_seed}
    family = sum(needs(claim).every_seed for claim in applicable)
    return exact | judge_suite(statistical, family)


def _runs(claim: Claim, plan: Plan, stored: Mapping[str, StoredRun]) -> dict[str, list[StoredRun]] | None:
    """The runs of a claim's models, one a seed; None if any is missing."""
    keys = {model: needed_keys(claim, model, plan) for model in needs(claim).models}
    if any(key not in stored for model_keys in keys.values() for key in model_keys):
        return None
    return {model: [stored[key] for key in model_keys] for model, model_keys in keys.items()}


def needed_keys(claim: Claim, model: str, plan: Plan) -> tuple[str, ...]:
    """The runs of one of a claim's models: of every seed, or of the first for an exact claim."""
    keys = plan.keys[model]
    return keys if needs(claim).every_seed else keys[:1]


def _parts(claim: Claim, runs: Mapping[str, Sequence[StoredRun]]) -> Parts:
    return quantities(claim, lambda model, measure: [run.measurements[measure] for run in runs[model]])


def why_not_made(claim: Claim, suite: Suite, plan: Plan, stored: Mapping[str, StoredRun]) -> str:
    """The failure that keeps a claim from being judged: of one of its runs, or of one that those are made from."""
    waiting = [key for model in needs(claim).models for key in needed_keys(claim, model, plan)]
    missing = ""
    while waiting:
        key = waiting.pop()
        if key in stored:
            continue
        if failure := suite.store.failure(key):
            return failure.message
        missing = missing or plan.runs[key].run.title
        waiting += plan.runs[key].parents.values()
    return f"run {missing} is not in the store"
