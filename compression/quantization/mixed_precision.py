"""Bits for each layer, so that a model fits a budget at the least estimated loss.

    choices = layer_choices(model, (2, 3, 4, 8), lambda candidate: loss_on(candidate, batches))
    bits = choose_bits(choices, byte_budget=500_000)                # {"conv1": 8, "layer1.0.conv1": 3, ...}
    model = quantize_each(model, {name: AffineSpec(bits=b) for name, b in bits.items()})

A layer's sensitivity is what quantizing it alone adds to a loss; sensitivities are taken to add up (as HAWQ-V3 does,
Yao et al., 2021). The choice is then a knapsack with one choice a layer, which scipy's HiGHS solves to the optimum.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn

from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_each
from compression.quantization.layers import weight_layers


@dataclass(frozen=True)
class Choice:
    """One way to store a layer's weight.

    Attributes:
        bits: Bits a weight.
        size: Bytes of the packed codes and the scales.
        loss: What this layer at these bits adds to the loss.
    """

    bits: int
    size: int
    loss: float


def layer_choices(
    model: nn.Module, bits: Sequence[int], loss: Callable[[nn.Module], float], spec: AffineSpec | None = None
) -> dict[str, list[Choice]]:
    """Measures each layer at each number of bits: all others stay as they are.

    Args:
        model: Stays as it is.
        bits: Numbers of bits to try.
        loss: Measures a model; is called once for the model and once for each layer and number of bits.
        spec: How layers are quantized, but for the bits.

    Raises:
        ValueError: If bits are out of range, or a weight can't be quantized.
    """
    before = loss(model)
    base = spec or AffineSpec()
    choices: dict[str, list[Choice]] = {}
    for name, layer in weight_layers(model).items():
        specs = [replace(base, bits=count) for count in bits]
        added = [loss(quantize_each(model, {name: each})) - before for each in specs]
        sizes = [_stored_bytes(layer, each) for each in specs]
        choices[name] = [Choice(*entry) for entry in zip(bits, sizes, added, strict=True)]
    return choices


def choose_bits(choices: Mapping[str, Sequence[Choice]], byte_budget: int) -> dict[str, int]:
    """Picks one choice for each layer, of least total loss within a budget of bytes; the exact optimum.

    Args:
        choices: For each layer what can be chosen, at least one.
        byte_budget: Most bytes all weights may take.

    Returns:
        Bits of each layer.

    Raises:
        ValueError: If even the smallest choices exceed the budget, a layer has none, or a loss is not finite.
    """
    _check(choices, byte_budget)
    flat = [(name, choice) for name, options in choices.items() for choice in options]
    if not flat:
        return {}
    loss = np.array([choice.loss for _, choice in flat])
    size = np.array([choice.size for _, choice in flat], dtype=float)
    one_each = np.array([[owner == name for owner, _ in flat] for name in choices], dtype=float)
    # Scaled, so that neither the solver's tolerances nor its gap are of the size of a byte or of a loss.
    unit = float(np.abs(loss).max()) or 1.0
    solution = milp(
        loss / unit,
        integrality=np.ones(len(flat), dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(size[None], -np.inf, byte_budget + 0.5)],
        options={"mip_rel_gap": 0},
    )
    if solution.x is None:
        raise ValueError(f"no choice of bits was found for {byte_budget} bytes ({solution.message})")
    return {name: choice.bits for (name, choice), taken in zip(flat, solution.x, strict=True) if taken > 0.5}


def _check(choices: Mapping[str, Sequence[Choice]], byte_budget: int) -> None:
    for name, options in choices.items():
        if not options:
            raise ValueError(f"layer {name!r} has no choices; at least one is needed")
        for choice in options:
            if not np.isfinite(choice.loss):
                raise ValueError(f"layer {name!r} at {choice.bits} bits has loss {choice.loss}; a finite one is needed")
    least = sum(min(choice.size for choice in options) for options in choices.values())
    if least > byte_budget:
        raise ValueError(f"the budget is {byte_budget} bytes; the smallest choices already take {least}")


def _stored_bytes(layer: nn.Module, spec: AffineSpec) -> int:
    weight = layer.get_parameter("weight")
    channels = 1 if spec.axis is None else weight.shape[spec.axis]
    return -(-weight.numel() * spec.bits // 8) + 4 * channels
