"""Makes a model by calling its recipe's builder, and writes it down. Needs torch."""

from importlib import import_module
from pathlib import Path

import torch
from torch.utils import deterministic

from compression.packing.state_file import save_state_dict
from experiments.builders.context import Builder, Built, Context
from experiments.numerics import THREADS_PER_RUN
from experiments.training_state import Epoch


def make_deterministic() -> None:
    """Makes torch's results depend on nothing but the run."""
    torch.set_num_threads(THREADS_PER_RUN)
    torch.use_deterministic_algorithms(mode=True)
    # Filling would cost a quarter of a small model's training; nothing here reads memory that it has not written.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def make(context: Context) -> Built:
    """Calls the builder of the recipe's operation."""
    builder: Builder = import_module(f"experiments.builders.{context.recipe.operation}").build
    return builder(context)


def write_weights(built: Built, path: Path) -> int:
    """Writes the file of a made model; returns its size in bytes."""
    return built.write(path) if built.write else save_state_dict(built.state, path, built.bits)


def history_csv(history: list[Epoch]) -> str:
    """The epochs as CSV; the accuracy of one that was not evaluated is left empty."""
    accuracies = ["" if epoch.accuracy is None else repr(epoch.accuracy) for epoch in history]
    rows = (f"{e.epoch},{e.loss!r},{e.training_accuracy!r},{a}" for e, a in zip(history, accuracies, strict=True))
    return "\n".join(["epoch,loss,training_accuracy,accuracy", *rows]) + "\n"
