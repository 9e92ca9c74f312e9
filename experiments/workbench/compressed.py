"""Models whose layers are no longer their architecture's: written with their layers, read back as they are.

The recipe's architecture is that of the uncompressed model; see `compression.packing.model_file`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn
from torch.nn.utils import parametrize

from compression.layers.batch_norm import reestimate_batch_norm
from compression.packing.container import is_packed
from compression.packing.model_file import load_model, save_model
from experiments.models import build_model
from experiments.workbench.context import budget, dataset, parent_model, splits, trained, training_batches, untrained
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import Objective, fit


def original(context: Context) -> nn.Module:
    """The parent `original`, compressed or not."""
    parent = context.parents["original"]
    if not is_packed(parent.weights):
        return parent_model(context, "original")
    base = build_model(parent.recipe.architecture, len(dataset(context).classes))
    return load_model(parent.weights, base).to(context.device)


def with_new_statistics(model: nn.Module, context: Context) -> Built:
    """The result of an operation without training: BN statistics are estimated in the budget's epochs."""
    with parametrize.cached():  # weights do not change: they are rounded once, not for each batch
        reestimate_batch_norm(model, (batch.inputs for batch in training_batches(context)))
        return replace(untrained(model, context), write=writer(model))


def finetuned(model: nn.Module, context: Context, objective: Objective) -> Built:
    """The result of training for the recipe's budget."""
    history = fit(model, *splits(context), budget(context), objective, context.seed, context.watcher)
    return replace(trained(model, context, history), write=writer(model))


def writer(model: nn.Module) -> Callable[[Path], int]:
    """Writes the model, its layers and its quantized weights as entropy-coded codes."""
    return lambda path: save_model(model.cpu(), path)
