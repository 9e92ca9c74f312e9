"""From the models that claims need to the runs that make them: keys, order and estimated effort."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_claims.keys.code_fingerprint import code_fingerprint
from pytest_claims.recipes.catalog import Catalog, Run
from pytest_claims.recipes.recipe import Recipe


@dataclass(frozen=True)
class PlannedRun:
    """A run with its place in the graph.

    Attributes:
        run: What to make.
        key: The hash of all that decides its bytes.
        parents: Keys of the runs that it is made from, by role.
        effort: Estimated seconds that it takes alone.
        remaining: Estimated seconds of the longest path that starts with it.
    """

    run: Run
    key: str
    parents: Mapping[str, str]
    effort: float
    remaining: float


@dataclass(frozen=True)
class Plan:
    """What is to be made for some recipes.

    Attributes:
        runs: By key, parents before children.
        keys: Of each recipe that was asked for, one a seed; the same for all seeds where the run is shared.
    """

    runs: Mapping[str, PlannedRun]
    keys: Mapping[str, tuple[str, ...]]


def make_plan(
    catalog: Catalog,
    wanted: Mapping[str, Sequence[int]],
    data_identity: Callable[[str, int], str],
    environment: Mapping[str, object],
    seconds: Callable[[Recipe], float],
    paths: Sequence[Path] = (),
) -> Plan:
    """Plans the runs of some recipes and all that they are made from.

    Args:
        catalog: All recipes.
        wanted: The seeds of each recipe that is asked for.
        data_identity: Tells what a role's data for a seed are known by.
        environment: What the machine adds to the keys.
        seconds: Estimates what a run of a recipe takes; it decides the order of the work, and no key.
        paths: The folders that the project's modules are imported from.
    """
    ordered: dict[str, tuple[Run, dict[str, str]]] = {}

    def visit(run: Run) -> str:
        parents = {role: visit(parent) for role, parent in catalog.parent_runs(run).items()}
        data = data_identity(run.recipe.data, run.seed) if run.recipe.data else None
        key = run_key(run, parents, data, environment, paths)
        ordered.setdefault(key, (run, parents))
        return key

    keys = {name: tuple(visit(catalog.run(name, seed)) for seed in seeds) for name, seeds in wanted.items()}
    estimates = {
        name: seconds(recipe) for name, recipe in {run.name: run.recipe for run, _ in ordered.values()}.items()
    }
    efforts = {key: estimates[run.name] for key, (run, _) in ordered.items()}
    remaining = _longest_paths(ordered, efforts)
    runs = {key: PlannedRun(run, key, parents, efforts[key], remaining[key]) for key, (run, parents) in ordered.items()}
    return Plan(runs, keys)


def run_key(
    run: Run,
    parents: Mapping[str, str],
    data: str | None,
    environment: Mapping[str, object],
    paths: Sequence[Path] = (),
) -> str:
    """Hashes everything that decides a run's bytes; see `pytest_claims.store`.

    Args:
        run: The run.
        parents: Keys of the runs that it is made from, by role.
        data: What the images that it is made with are known by, if there are any.
        environment: What the machine adds.
        paths: The folders that the project's modules are imported from.
    """
    recipe = run.recipe
    parts = {
        "recipe": recipe.canonical(),
        "parents": dict(parents),
        "seed": run.seed,
        "code": code_fingerprint(code_modules(recipe), paths),
        "data": data,
        "environment": dict(environment),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def lineage(plan: Plan, planned: PlannedRun) -> dict[str, PlannedRun]:
    """Return the runs whose files a run is made from, by key: its parents; for `@recipe` functions, all ancestors.

    A function gets its parents as models, whose layers are found by calling their functions with their parents.
    """
    needed: dict[str, PlannedRun] = {}
    waiting = list(planned.parents.values())
    while waiting:
        key = waiting.pop(0)
        if key not in needed:
            needed[key] = plan.runs[key]
            if ":" in planned.run.recipe.builder:
                waiting += plan.runs[key].parents.values()
    return needed


def code_modules(recipe: Recipe) -> list[str]:
    """Return the modules that make a run of a recipe, or `module:function` where only a function of one does."""
    architecture = [recipe.architecture.module] if recipe.architecture else []
    return [recipe.builder, *recipe.code, *architecture, "pytest_claims.workers.making"]


def _longest_paths(
    ordered: Mapping[str, tuple[Run, Mapping[str, str]]], efforts: Mapping[str, float]
) -> dict[str, float]:
    below = dict.fromkeys(ordered, 0.0)
    for key, (_, parents) in reversed(list(ordered.items())):
        for parent in parents.values():
            below[parent] = max(below[parent], efforts[key] + below[key])
    return {key: efforts[key] + below[key] for key in ordered}
