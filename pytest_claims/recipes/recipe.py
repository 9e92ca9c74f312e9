"""What a recipe is: a frozen description of a model and of how it is made from data and other models.

A recipe says *what*; the builder that it names knows *how*. Plain Python: nothing here needs torch.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

TARGET = "target"
"""The role of the data that models are measured on."""

Precision = Literal["float32", "bfloat16"]
Value = str | int | float | tuple[int, ...]
Settings = tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Architecture:
    """A model: a module, whose function `build` takes the number of classes and the options.

    Attributes:
        module: Full dotted name, such as `paper.models.lenet`.
        options: Keyword arguments of `build`.
    """

    module: str
    options: Settings = ()


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image; see `pytest_claims.training.augmentation`.

    Attributes:
        shift: Largest shift in either direction, as a share of the image's side.
        rotation: Largest rotation in either direction, in degrees.
        flip: Whether half of the images are mirrored left to right.
        views: How many augmented views of each image training cycles through, one an epoch. A finite number
            lets what another model answers to each view be computed once; 0 draws new views for ever.
    """

    shift: float
    rotation: float
    flip: bool
    views: int


@dataclass(frozen=True)
class Budget:
    """How long and how a model is trained.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images in a step; a last, smaller batch is left out.
        optimizer: `sgd` has momentum 0.9, `nesterov` in Nesterov's form; `adamw` has torch's defaults.
        learning_rate: The schedule's peak.
        weight_decay: Of all parameters.
        schedule: `constant`, or `cosine` to zero after a linear warm-up over the first tenth of the steps.
        precision: Of the forward and backward pass; weights and the optimizer's state stay float32.
        augmentation: Of the training images.
        evaluate_every: Epochs from one evaluation to the next, counted back from the last, which is always evaluated.
            The best epoch is the best of those.
    """

    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "nesterov", "adamw"]
    learning_rate: float
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    precision: Precision
    augmentation: Augmentation
    evaluate_every: int = 1


@dataclass(frozen=True)
class Recipe:
    """One model: an operation on an architecture, a data set and parent models.

    Attributes:
        builder: What makes it: a module, whose function `build` is called, or `module:function`.
        architecture: The model that comes out, if the builder does not know it by itself.
        data: Role of the data set that it is trained and measured on (a name of the profile's `datasets`), if any.
        budget: Of its training, if it is trained.
        settings: What else the builder needs.
        parents: Role and recipe of each model that this one is made from.
        shared: Whether one run, with seed 0, serves all seeds.
        code: Modules that make it beside its builder, or `module:function`.
        family: What plots and tables group it under; decides no byte.
        curve: Models with the same one are joined by a line in plots, from the parent of the first on; decides no byte.
        intermediate: Whether it is only a step to another model, which plots of results leave out; decides no byte.
    """

    builder: str
    architecture: Architecture | None = None
    data: str | None = None
    budget: Budget | None = None
    settings: Settings = ()
    parents: tuple[tuple[str, "Recipe"], ...] = ()
    shared: bool = False
    code: tuple[str, ...] = field(default=(), compare=False)
    family: str = field(default="", compare=False)
    curve: str = field(default="", compare=False)
    intermediate: bool = field(default=False, compare=False)

    def canonical(self) -> dict[str, object]:
        """Everything that decides the run's bytes, parents apart, as JSON values."""
        deciding = [f.name for f in dataclasses.fields(self) if f.compare and f.name != "parents"]
        description = {name: getattr(self, name) for name in deciding}
        return {name: _plain(value) for name, value in description.items()}


def in_family(family: str, recipes: Mapping[str, Recipe], *, intermediate: bool = False) -> dict[str, Recipe]:
    """Return recipes by name as models of a family; see `Recipe`."""
    return {name: replace(recipe, family=family, intermediate=intermediate) for name, recipe in recipes.items()}


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
