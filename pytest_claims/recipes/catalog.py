"""Recipes by name, and the runs that they give with a seed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_claims.recipes.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """A recipe with a seed, trained or compressed."""

    name: str
    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name):
            raise ValueError(f"recipe name {self.name!r}: use lower-case letters, digits, '-', '_' and '.'")

    @property
    def title(self) -> str:
        """How people are told of this run."""
        return f"{self.name} (shared)" if self.recipe.shared else f"{self.name} (seed {self.seed})"


class Catalog(Mapping[str, Recipe]):
    """Recipes by name, each after the parents that it is made from; the parents are in it, too."""

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = dict(recipes)
        self._names = {recipe: name for name, recipe in reversed(self._recipes.items())}
        for name, recipe in self._recipes.items():
            for role, parent in recipe.parents:
                if parent not in self._names:
                    raise ValueError(f"recipe {name!r}: its {role} is not in the catalog")

    def __getitem__(self, name: str) -> Recipe:
        return self._recipes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)

    @property
    def curves(self) -> tuple[tuple[str, ...], ...]:
        """The models that each curve joins, from the parent of its first on."""
        curves: dict[str, list[str]] = {}
        for name, recipe in self._recipes.items():
            if recipe.curve:
                start = [self._names[parent] for _, parent in recipe.parents[:1]]
                curves.setdefault(recipe.curve, start).append(name)
        return tuple(map(tuple, curves.values()))

    def run(self, name: str, seed: int) -> Run:
        """The run of a named recipe with a seed; a shared recipe has the one of seed 0."""
        recipe = self._recipes[name]
        return Run(name, recipe, 0 if recipe.shared else seed)

    def parent_runs(self, run: Run) -> dict[str, Run]:
        """The runs that a run is made from, by role."""
        return {role: self.run(self._names[parent], run.seed) for role, parent in run.recipe.parents}
