"""What a builder is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from pytest_claims.datasets.dataset import Dataset
from pytest_claims.recipes.function import RecipeFunction
from pytest_claims.recipes.recipe import Recipe
from pytest_claims.training.training import Images, Watcher
from pytest_claims.training.training_state import Epoch


@dataclass(frozen=True)
class Parent:
    """A finished run that another is made from.

    Attributes:
        recipe: What it is.
        weights: Its file.
        measurements: Its numbers by name.
        parents: What it is made from itself, by role.
    """

    recipe: Recipe
    weights: Path
    measurements: Mapping[str, float]
    parents: Mapping[str, "Parent"] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """Everything that a builder may use.

    Attributes:
        recipe: What to make.
        seed: Decides every random choice.
        parents: The runs that it is made from, by role.
        dataset: The data of the recipe's role; None for a recipe without data.
        device: Where to compute.
        watcher: Follows the training.
        weights_file: A file of pre-trained weights, if one was given.
        measures: Functions that take measures of every model with data; only `@recipe` functions need them.
    """

    recipe: Recipe
    seed: int
    parents: Mapping[str, Parent]
    dataset: Dataset | None
    device: torch.device
    watcher: Watcher
    weights_file: Path | None = None
    measures: Mapping[str, Callable[[nn.Module, Images], float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """A made model.

    Attributes:
        state: Its state dict.
        measurements: Its numbers by name, without `bytes`, which the file tells.
        history: The epochs of its training.
        write: Writes its file; None for a safetensors file of the state dict.
    """

    state: Mapping[str, Tensor]
    measurements: Mapping[str, float]
    history: list[Epoch] = field(default_factory=list)
    write: Callable[[Path], object] | None = None


Builder = Callable[[Context], Built]


def builder_of(recipe: Recipe) -> Builder | RecipeFunction:
    """The function that a recipe names."""
    module, _, function = recipe.builder.partition(":")
    builder: Builder | RecipeFunction = getattr(import_module(module), function or "build")
    return builder
