"""The report's models, one family a module, each with `build(classes, **options)`.

A family is imported by name, when it is built, so that a change to one rebuilds no run of another.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from pytest_claims.recipes.recipe import Architecture


def build_model(architecture: "Architecture | None", classes: int) -> "nn.Module":
    """Builds a freshly initialised model from torch's global random state.

    Args:
        architecture: Module and options.
        classes: Number of outputs.

    Raises:
        ValueError: There is no architecture.
    """
    if architecture is None:
        raise ValueError("the recipe has no architecture, should have one of experiments.models")
    model: nn.Module = import_module(architecture.module).build(classes, **dict(architecture.options))
    return model
