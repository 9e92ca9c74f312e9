"""BatchNorm running statistics measured anew, with the weights untouched."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replaces all BatchNorm running statistics by those of the given batches.

    Each becomes the plain average, over the batches, of the batch's mean or unbiased variance; so
    batches should be of one size. Only the BatchNorm layers run in training mode: a layer sees what
    those before it give when they normalize by the batch, and dropout stays off. Weights, each module's
    training flag and each layer's momentum are afterwards as they were.

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
    training = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    try:
        _start_cumulative_average(model, norms)
        for batch in itertools.chain([first], remaining):
            model(batch)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, flag in training.items():
            module.training = flag


def _start_cumulative_average(model: nn.Module, norms: Iterable[_BatchNorm]) -> None:
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
