"""What our builders share: the model, data and budget of a run, and what is measured of every model."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TypeVar

from torch import Tensor, nn

from compression.cost import multiply_accumulates, parameter_count
from compression.packing.state_file import load_state_dict, save_state_dict
from experiments.models import build_model
from pytest_claims.datasets.dataset import Dataset
from pytest_claims.recipes.recipe import Budget
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import Batch, Images, augmented_batches, evaluate, seed_initialisation
from pytest_claims.training.training_state import Epoch

_Value = TypeVar("_Value", str, int, float)


def setting(context: Context, name: str, kind: type[_Value]) -> _Value:
    """One of the recipe's settings.

    Raises:
        ValueError: It is missing or of another type; the message names builder and setting.
    """
    value = dict(context.recipe.settings).get(name)
    if type(value) is not kind:
        builder = context.recipe.builder
        raise ValueError(f"builder {builder!r}: its setting {name!r} is {value!r}, should be {kind.__name__}")
    return value


def budget(context: Context) -> Budget:
    """The recipe's budget, which its operation needs."""
    if context.recipe.budget is None:
        raise ValueError(f"builder {context.recipe.builder!r}: the recipe has no budget")
    return context.recipe.budget


def dataset(context: Context) -> Dataset:
    """The recipe's data, which its operation needs."""
    if context.dataset is None:
        raise ValueError(f"builder {context.recipe.builder!r}: the recipe has no data")
    return context.dataset


def splits(context: Context) -> tuple[Images, Images]:
    """Training and validation images on the device."""
    data = dataset(context)
    return Images.of(data.training, context.device), Images.of(data.validation, context.device)


def training_batches(context: Context) -> Iterator[Batch]:
    """The augmented training images of the budget's epochs."""
    training, _ = splits(context)
    epochs = range(budget(context).epochs)
    return chain.from_iterable(augmented_batches(training, budget(context), context.seed, epoch) for epoch in epochs)


def fresh_model(context: Context) -> nn.Module:
    """The recipe's architecture, initialised from the run's seed."""
    seed_initialisation(context.seed)
    return build_model(context.recipe.architecture, len(dataset(context).classes)).to(context.device)


def parent_model(context: Context, role: str) -> nn.Module:
    """A parent, as it was trained."""
    parent = context.parents[role]
    model = build_model(parent.recipe.architecture, len(dataset(context).classes))
    model.load_state_dict(load_state_dict(parent.weights))
    return model.to(context.device)


def cost(model: nn.Module, height: int, width: int) -> dict[str, float]:
    """Parameters, and multiply-accumulates for one image."""
    return {
        "parameters": parameter_count(model),
        "macs": multiply_accumulates(model, (3, height, width)),
    }


def trained(model: nn.Module, context: Context, history: list[Epoch]) -> Built:
    """The result of a training: the last epoch's model; the best epoch's accuracy is kept beside the last one's."""
    evaluated = [epoch.accuracy for epoch in history if epoch.accuracy is not None]
    accuracies = {"accuracy": evaluated[-1], "best_accuracy": max(evaluated)}
    return built(state_on_cpu(model), {**cost(model, *image_size(context)), **accuracies}, history)


def untrained(model: nn.Module, context: Context) -> Built:
    """The result of an operation without training, measured in float32."""
    _, validation = splits(context)
    accuracy = evaluate(model, validation)
    measurements = {**cost(model, *image_size(context)), "accuracy": accuracy, "best_accuracy": accuracy}
    return built(state_on_cpu(model), measurements)


def built(
    state: Mapping[str, Tensor], measurements: Mapping[str, float], history: Sequence[Epoch] = (), bits: int = 32
) -> Built:
    """Return a made model whose file holds its state dict at 32, 16 or 8 bits a weight."""
    return Built(state, measurements, list(history), lambda path: save_state_dict(state, path, bits))


def image_size(context: Context) -> tuple[int, int]:
    """Height and width of the images in pixels."""
    _, height, width, _ = dataset(context).training.images.shape
    return height, width


def state_on_cpu(model: nn.Module) -> dict[str, Tensor]:
    """The state dict, contiguous and on the CPU, as files hold it."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
