from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from compression.packing.container import is_packed
from compression.packing.model_file import load_model
from compression.packing.state_file import load_state_dict
from experiments.models import build_model
from pytest_claims.datasets.dataset import Dataset
from pytest_claims.datasets.fractal import FractalSpec, make_fractal_dataset
from pytest_claims.recipes.recipe import Architecture, Augmentation, Budget, Recipe
from pytest_claims.training.context import Built, Context, Parent
from pytest_claims.training.training import Unwatched
from pytest_claims.workers.making import make, write_weights

BUDGET = Budget(2, 10, "sgd", 0.05, 5e-4, "cosine", "float32", Augmentation(0.06, 15.0, True, 2))


@dataclass(frozen=True)
class Made:
    """A run: what its builder gave, and the file of its weights."""

    context: Context
    built: Built
    weights: Path

    @property
    def parent(self) -> Parent:
        return Parent(self.context.recipe, self.weights, self.built.measurements)

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in load_state_dict(self.weights).items()}

    def model(self, classes: int) -> torch.nn.Module:
        """What the file holds."""
        model = build_model(self.context.recipe.architecture, classes)
        if is_packed(self.weights):
            return load_model(self.weights, model)
        model.load_state_dict(load_state_dict(self.weights))
        return model


Run = Callable[..., Made]


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """Three classes of a few 16 px images."""
    return make_fractal_dataset(FractalSpec(0, 3, 10, 7, 16, jitter=0.1, noise=0.02))


@pytest.fixture(scope="session")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Makes a recipe's model from parents by role, and writes its weights to a file."""

    def run_recipe(recipe: Recipe, seed: int = 0, weights_file: Path | None = None, **parents: Made) -> Made:
        context = Context(
            recipe,
            seed,
            {role: made.parent for role, made in parents.items()},
            dataset if recipe.data else None,
            torch.device("cpu"),
            Unwatched(),
            weights_file,
        )
        built = make(context)
        path = tmp_path_factory.mktemp("run") / "weights.safetensors"
        write_weights(built, path)
        return Made(context, built, path)

    return run_recipe


@pytest.fixture(scope="session")
def check_measurements(dataset: Dataset) -> Callable[[Made], None]:
    """Counts parameters, multiply-accumulates and right answers anew, with the model that the file holds."""

    def check(made: Made) -> None:
        model = made.model(len(dataset.classes))
        measured = made.built.measurements
        assert measured["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert measured["macs"] == _multiply_accumulates(model)
        images = torch.from_numpy(dataset.validation.images).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            answers = model.eval()(images).argmax(1).numpy()
        right = int((answers == dataset.validation.labels).sum())
        assert measured["accuracy"] == pytest.approx(100 * right / len(answers), abs=1e-9)

    return check


def _multiply_accumulates(model: torch.nn.Module) -> int:
    """Of one 16 px image: the outputs of each layer times the weights that each of them takes in."""
    counts = []

    def count(layer: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        counts.append(output[0].numel() * layer.weight[0].numel())

    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 16, 16))
    for handle in handles:
        handle.remove()
    return sum(counts)


@pytest.fixture(scope="session")
def check_training(dataset: Dataset, check_measurements: Callable[[Made], None]) -> Callable[[Made], None]:
    """What holds of every trained run."""

    def check(made: Made) -> None:
        check_measurements(made)
        history, measured = made.built.history, made.built.measurements
        budget = made.context.recipe.budget
        assert budget is not None
        assert [epoch.epoch for epoch in history] == list(range(1, budget.epochs + 1))
        assert measured["accuracy"] == history[-1].accuracy
        assert measured["best_accuracy"] == max(epoch.accuracy for epoch in history)
        assert set(measured) == {"parameters", "macs", "accuracy", "best_accuracy"}
        if not is_packed(made.weights):
            stored = load_file(made.weights).values()
            assert {value.dtype for value in stored if value.is_floating_point()} == {torch.float32}

    return check


@pytest.fixture(scope="session")
def budget() -> Budget:
    return BUDGET


@pytest.fixture(scope="session")
def still() -> Budget:
    """One pass at a rate of 0: nothing but BN statistics moves."""
    return replace(BUDGET, epochs=1, learning_rate=0.0)


@pytest.fixture(scope="session")
def student(run: Run) -> Made:
    """A narrow student, trained until its BN scales differ."""
    architecture = Architecture("experiments.models.student", (("widths", (4, 4, 8, 12, 10, 9, 8, 8)),))
    return run(Recipe("experiments.builders.train", architecture, "target", replace(BUDGET, learning_rate=0.2)))


@pytest.fixture(scope="session")
def cnn(run: Run) -> Made:
    """A small ordinary CNN, trained until it is better than chance."""
    architecture = Architecture("experiments.models.question4", (("kind", "ordinary"), ("parameters", 6000)))
    return run(Recipe("experiments.builders.train", architecture, "target", replace(BUDGET, epochs=8)))
