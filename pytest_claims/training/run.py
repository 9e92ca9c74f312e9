"""What a recipe's function is given, and how its model is made, measured and loaded again."""

import random
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pytest_claims.datasets.dataset import Dataset
from pytest_claims.recipes.function import RecipeFunction
from pytest_claims.recipes.recipe import Augmentation, Budget
from pytest_claims.training.context import Built, Context, Parent, builder_of
from pytest_claims.training.training import (
    Batch,
    Images,
    Objective,
    cross_entropy,
    evaluate,
    fit,
    seed_initialisation,
    seeded_generator,
)
from pytest_claims.training.training_state import Epoch

NO_AUGMENTATION = Augmentation(shift=0.0, rotation=0.0, flip=False, views=1)


class RecipeError(RuntimeError):
    """A recipe's function does what it may not; the message names it and what would be right."""


class Run:
    """A run that is being made.

    Attributes:
        seed: Decides every random choice; torch's, NumPy's and Python's global generators are seeded with it.
        device: Where to compute.
        measurements: Numbers by name, beside those that are taken of every model; add your own.
    """

    def __init__(self, name: str, context: Context, *, rebuilding: bool = False) -> None:
        self.seed = context.seed
        self.device = context.device
        self.measurements: dict[str, float] = {}
        self._name = name
        self._context = context
        self._rebuilding = rebuilding
        self._history: list[Epoch] | None = None

    @property
    def data(self) -> Dataset:
        """The data of the recipe's role: class names, training and validation images as NumPy arrays.

        Raises:
            RecipeError: The recipe has none.
        """
        if self._context.dataset is None:
            raise RecipeError(f"recipe {self._name}: has no data; give it some by @recipe(data=...)")
        return self._context.dataset

    @property
    def classes(self) -> int:
        """How many classes the data have."""
        return len(self.data.classes)

    @property
    def channels(self) -> int:
        """Of an image: 1 or 3."""
        return int(self.data.training.images.shape[3])

    @property
    def training(self) -> Images:
        """The images to learn from, on the device."""
        return Images.of(self.data.training, self.device)

    @property
    def validation(self) -> Images:
        """The images that models are measured on, on the device."""
        return Images.of(self.data.validation, self.device)

    @property
    def history(self) -> list[Epoch]:
        """The epochs of the training, if there was one."""
        return self._history or []

    def generator(self, purpose: str) -> torch.Generator:
        """Return a generator of random numbers of its own for a purpose, which depends on the seed alone."""
        return seeded_generator(self.seed, purpose)

    def fit(
        self,
        model: nn.Module,
        *,
        epochs: int,
        learning_rate: float,
        batch_size: int = 64,
        optimizer: Literal["sgd", "nesterov", "adamw"] = "nesterov",
        weight_decay: float = 0.0,
        schedule: Literal["constant", "cosine"] = "cosine",
        augmentation: Augmentation = NO_AUGMENTATION,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> nn.Module:
        """Train a model, and return it. A run that is interrupted goes on from its last checkpoint.

        Args:
            model: Takes float32 images (n, channels, height, width) in [0, 1].
            epochs: Passes over the training images.
            learning_rate: The schedule's peak.
            batch_size: Images in a step.
            optimizer: See `pytest_claims.recipes.recipe.Budget`, as for the others.
            weight_decay: Of all parameters.
            schedule: `constant`, or `cosine` to zero after a short warm-up.
            augmentation: Random changes of training images.
            loss: Takes outputs and labels (n,); cross-entropy without one.

        Raises:
            RecipeError: The recipe has trained before.
            TrainingError: The loss is not finite.
        """
        if self._history is not None:
            raise RecipeError(
                f"recipe {self._name}: trains twice; make the second training a recipe of its own, with this one as "
                "its argument"
            )
        model = model.to(self.device)
        if self._rebuilding:
            self._history = []
            return model
        budget = Budget(
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            schedule=schedule,
            precision="float32",
            augmentation=augmentation,
            evaluate_every=epochs,
        )
        objective = cross_entropy if loss is None else _objective(loss)
        self._history = fit(model, self.training, self.validation, budget, objective, self.seed, self._context.watcher)
        return model


def _objective(loss: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    def objective(outputs: Tensor, batch: Batch) -> Tensor:
        return loss(outputs, batch.labels)

    return objective


def build(recipe: RecipeFunction, context: Context) -> Built:
    """Make a run of a recipe's function.

    Raises:
        RecipeError: The function returns no model.
    """
    run = Run(recipe.name, context)
    model = _call(recipe, run, {role: rebuild(parent, context) for role, parent in context.parents.items()})
    measurements = {"parameters": float(sum(parameter.numel() for parameter in model.parameters()))}
    if context.dataset is not None:
        measurements |= _accuracies(model, run) | _taken(model, run, context)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return Built(state, measurements | run.measurements, run.history)


def rebuild(parent: Parent, context: Context) -> nn.Module:
    """Load the model of a finished run, in evaluation mode.

    Its recipe's function is called again, without training, for the model's layers; then they get what was stored.

    Raises:
        RecipeError: The layers are others than those that were stored.
    """
    recipe = builder_of(parent.recipe)
    if not isinstance(recipe, RecipeFunction):
        raise RecipeError(f"{parent.recipe.builder}: is no @recipe function, so its models are not loaded for others")
    run = Run(recipe.name, context, rebuilding=True)
    model = _call(recipe, run, {role: rebuild(grandparent, context) for role, grandparent in parent.parents.items()})
    try:
        model.load_state_dict(load_file(parent.weights))
    except RuntimeError as error:
        raise RecipeError(
            f"recipe {recipe.name}: called again, it has other layers than those that were stored ({error}). What "
            "changes layers by what they learned must be a recipe of its own, after the training"
        ) from error
    return model.to(context.device).eval()


def _call(recipe: RecipeFunction, run: Run, parents: Mapping[str, nn.Module]) -> nn.Module:
    seed_initialisation(run.seed)
    np.random.seed(run.seed % 2**32)  # noqa: NPY002 (whatever generator a user's code draws from)
    random.seed(run.seed)
    model = recipe.function(run, **parents)
    if not isinstance(model, nn.Module):
        raise RecipeError(f"recipe {recipe.name}: returned {type(model).__name__}, should return a model")
    return model


def _accuracies(model: nn.Module, run: Run) -> dict[str, float]:
    evaluated = [epoch.accuracy for epoch in run.history if epoch.accuracy is not None]
    last = evaluate(model, run.validation)
    return {"accuracy": last, "best_accuracy": max([last, *evaluated])}


def _taken(model: nn.Module, run: Run, context: Context) -> dict[str, float]:
    """What the project's own measures say."""
    model.eval()
    return {name: float(function(model, run.validation)) for name, function in context.measures.items()}
