"""Makes a model by calling its recipe's builder, and writes it down. Needs torch."""

from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils import deterministic

from pytest_claims.basics.limits import THREADS_PER_RUN
from pytest_claims.recipes.function import FUNCTION_CODE, RecipeFunction
from pytest_claims.training.context import Built, Context, builder_of
from pytest_claims.training.training_state import Epoch


def make_deterministic() -> None:
    """Makes torch's results depend on nothing but the run."""
    torch.set_num_threads(THREADS_PER_RUN)
    torch.use_deterministic_algorithms(mode=True)
    # Filling would cost a quarter of a small model's training; nothing here reads memory that it has not written.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def make(context: Context) -> Built:
    """Calls the recipe's builder."""
    builder = builder_of(context.recipe)
    if not isinstance(builder, RecipeFunction):
        return builder(context)
    # By name, so that it counts for the keys of functions alone, which have it among their code.
    built: Built = import_module(FUNCTION_CODE).build(builder, context)
    return built


def write_weights(built: Built, path: Path) -> int:
    """Writes the file of a made model; returns its size in bytes."""
    if built.write:
        built.write(path)
    else:
        # Copies: safetensors refuses tensors that share memory.
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in built.state.items()}, path)
    return path.stat().st_size


def history_csv(history: list[Epoch]) -> str:
    """The epochs as CSV; the accuracy of one that was not evaluated is left empty."""
    accuracies = ["" if epoch.accuracy is None else repr(epoch.accuracy) for epoch in history]
    rows = (f"{e.epoch},{e.loss!r},{e.training_accuracy!r},{a}" for e, a in zip(history, accuracies, strict=True))
    return "\n".join(["epoch,loss,training_accuracy,accuracy", *rows]) + "\n"
