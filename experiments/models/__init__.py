"""The report's models, one family a module, each with `build(classes, **options)`.

A family is imported by name, when it is built, so that a change to one rebuilds no run of another.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from experiments.recipe import Architecture


def build_model(architecture: "Architecture", classes: int) -> "nn.Module":
    """Builds a freshly initialised model from torch's global random state.

    Args:
        architecture: Family and options.
        classes: Number of outputs.
    """
    family = import_module(f"experiments.models.{architecture.family}")
    model: nn.Module = family.build(classes, **dict(architecture.options))
    return model
