"""Weight quantization of the parent `original`: its whole state dict, and what that does to its weights."""

import math

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from compression.quantization.state_dict import dequantize_state_dict, quantize_state_dict, relative_error
from experiments.workbench.context import built, parent_model, setting, untrained
from pytest_claims.training.context import Built, Context

SMALL_WEIGHT = 0.1
"""Magnitude below which a weight counts as a small number."""


def build(context: Context) -> Built:
    """Needs the setting `bits` (8: affine min-max codes; 16: float16). Weights are dequantized to be measured."""
    bits = setting(context, "bits", int)
    model = parent_model(context, "original")
    weights = kernel_weights(model)
    model.load_state_dict(dequantize_state_dict(quantize_state_dict(model.state_dict(), bits)))
    rounded = untrained(model, context)
    measured = {**rounded.measurements, **(weight_measurements(weights) if bits == 8 else {})}
    return built(rounded.state, measured, bits=bits)


def kernel_weights(model: nn.Module) -> list[Tensor]:
    """Copies of the weights of all convolutions and linear layers."""
    layers = (m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return [layer.weight.detach().clone() for layer in layers]


def weight_measurements(weights: list[Tensor]) -> dict[str, float]:
    """Puts numbers to the report's reading that quantization hardly hurts, since weights are small numbers.

    Returns:
        `small_weight_share`: percent of weights of magnitude below `SMALL_WEIGHT`.
        `relative_error`: percent, the norm of what 8 bits change over the norm of the weights.
        `size_error_correlation`: Spearman's rank correlation over tensors of root mean square and relative error,
            which would be positive if small weights were why the error is small.
    """
    flat = torch.cat([w.flatten().double() for w in weights])
    norms = [float(w.double().norm()) for w in weights]
    errors = [relative_error(w) for w in weights]
    total = math.hypot(*(norm * error for norm, error in zip(norms, errors, strict=True)))
    sizes = [norm / math.sqrt(w.numel()) for norm, w in zip(norms, weights, strict=True)]
    return {
        "small_weight_share": 100 * float((flat.abs() < SMALL_WEIGHT).double().mean()),
        "relative_error": 100 * total / float(flat.norm()),
        "size_error_correlation": float(spearmanr(sizes, errors).statistic),
    }
