"""BatchNorm running statistics measured anew, with the weights untouched."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compression.layers.evaluation_mode import evaluation_mode


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace all BatchNorm running statistics by those of the given batches.

    Each becomes the plain average, over the batches, of the batch's mean or unbiased variance; so
    batches should be of one size. Only the BatchNorm layers run in training mode: a layer sees what
    those before it give when they normalize by the batch, and dropout stays off. Weights, each module's
    training flag and each layer's momentum are afterwards as they were, and so are the statistics of a layer
    that did not run, as one of a head that is there in training alone.

    Args:
        model: Changed in place.
        batches: Inputs of the model, on its device.

    Raises:
        ValueError: If there is no batch, or no BatchNorm layer with running statistics.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    if not norms:
        raise ValueError("the model has no BatchNorm layer with running statistics to re-estimate")
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        raise ValueError("no batch to re-estimate the BatchNorm statistics on; at least 1 is needed")
    with evaluation_mode(model), _cumulative_average(norms):
        for batch in itertools.chain([first], remaining):
            model(batch)


@contextmanager
def _cumulative_average(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Start the statistics anew; put those of a layer that did not run back."""
    before = [(norm, norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum, statistics in before:
            norm.momentum = momentum
            if not norm.num_batches_tracked:
                for buffer, old in zip(norm.buffers(), statistics, strict=True):
                    buffer.copy_(old)
