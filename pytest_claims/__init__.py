"""A pytest plugin in which every claim of a report is a test that makes models, measures them and judges.

It knows no model and no operation: a project brings its own.

* `claims`: what is claimed, one class a kind, and the file that holds it; `verdicts`: how numbers become a verdict
* `recipes`: what a project tells: recipes, profiles, measures
* `datasets`, `training`: what models learn from, and how; `keys`: all that decides a run's bytes
* `suite`: which runs one set of options gives, in which order, and what was found; `report`: what is shown of it
* `store`: where finished runs are kept; `workers`: who makes missing ones, here or on Ray (`workers.cluster`)
* `plugin`: brings it to pytest; `commands`: `python -m pytest_claims`; `basics`: what all of these use

What a project's recipes need is here:

    from pytest_claims import Augmentation, Measure, measure, recipe
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_claims.recipes.function import measure, recipe
    from pytest_claims.recipes.measure import Measure
    from pytest_claims.recipes.recipe import Augmentation

__all__ = ["Augmentation", "Measure", "measure", "recipe"]

_HOMES = {"Augmentation": "recipes.recipe", "Measure": "recipes.measure", "measure": "recipes.function"}


def __getattr__(name: str) -> Any:
    """Import what users need when they ask for it: pytest imports this package in every project."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'recipes.function')}"), name)
