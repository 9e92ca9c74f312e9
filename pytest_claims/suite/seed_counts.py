"""How many seeds each claim is judged on."""

from collections.abc import Iterable, Mapping, Sequence

from pytest_claims.claims.claim import Claim
from pytest_claims.suite.suite import Suite


def wanted(claims: Iterable[Claim], seeds: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the seeds of each model that claims need.

    Args:
        claims: The claims.
        seeds: Of each claim, by id; an exact claim needs the first alone.
    """
    models: dict[str, tuple[int, ...]] = {}
    for claim in claims:
        needed = tuple(seeds[claim.id][:1] if claim.exact else seeds[claim.id])
        for model in claim.needed_models():
            models[model] = max(models.get(model, ()), needed, key=len)
    return models


def first(counts: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the first seeds of each claim, by id, given how many."""
    return {id_: tuple(range(count)) for id_, count in counts.items()}


def fixed(claims: Iterable[Claim], suite: Suite) -> dict[str, tuple[int, ...]]:
    """Return the seeds that every claim is judged on before any are added, by id."""
    return {claim.id: suite.seeds for claim in claims}


def reached(claims: Iterable[Claim], suite: Suite) -> dict[str, tuple[int, ...]]:
    """Return the seeds that each claim can be judged on, by id: those of the last look whose runs are all in the store.

    Where seeds are not added, or the first look's runs are not all there, the suite's.
    """
    claims = list(claims)
    seeds = fixed(claims, suite)
    candidates = [claim for claim in claims if not claim.exact]
    for look in suite.looks.up_to()[1:] if suite.looks else ():
        more = tuple(range(look.seeds))
        plan = suite.plan(wanted(candidates, dict.fromkeys(seeds, more)))
        there = {key for key in plan.runs if suite.store.holds(key)}
        candidates = [claim for claim in candidates if _all(claim, plan.keys, there)]
        seeds |= {claim.id: more for claim in candidates}
        if not candidates:
            break
    return seeds


def _all(claim: Claim, keys: Mapping[str, Sequence[str]], there: set[str]) -> bool:
    return all(there.issuperset(keys[model]) for model in claim.needed_models())
