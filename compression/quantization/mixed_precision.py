"""Bits for each layer, so that a model fits a budget at the least estimated loss.

    choices = layer_choices(model, (2, 3, 4, 8), lambda candidate: loss_on(candidate, batches))
    bits = choose_bits(choices, byte_budget=500_000)                # {"conv1": 8, "layer1.0.conv1": 3, ...}
    model = quantize_each(model, {name: AffineSpec(bits=b) for name, b in bits.items()})

A layer's sensitivity is what quantizing it alone adds to a loss; sensitivities are taken to add up (as HAWQ-V3 does,
Yao et al., 2021). The choice is then a knapsack with one choice a layer. It is solved layer by layer: of all choices so
far only those are kept that no other beats in both bytes and loss, and whose linear relaxation over the layers to come
is no worse than one already found (Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", 1995).
Where losses are in proportion to bytes that excludes none, and the exact optimum may be out of reach.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compression.layers.weights import output_axis, weight_layers
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_each

Floats = NDArray[np.float64]

# A few seconds, and about a gigabyte.
MOST_COMBINATIONS: Final = 20_000_000


@dataclass(frozen=True)
class Choice:
    """One way to store a layer's weight.

    Attributes:
        bits: Bits a weight.
        size: Bytes of the packed codes, the scales, and the zero points of asymmetric grids.
        loss: What this layer at these bits adds to the loss.
    """

    bits: int
    size: int
    loss: float


def layer_choices(
    model: nn.Module, bits: Sequence[int], loss: Callable[[nn.Module], float], spec: AffineSpec | None = None
) -> dict[str, list[Choice]]:
    """Measure each layer at each number of bits, all others as they are.

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
    """Pick one choice for each layer, of least total loss within a budget of bytes; the exact optimum.

    Args:
        choices: For each layer what can be chosen, at least one.
        byte_budget: Most bytes all weights may take.

    Returns:
        Bits of each layer.

    Raises:
        ValueError: If even the smallest choices exceed the budget, a layer has none, a loss is not finite, or the
            optimum takes trying more than `MOST_COMBINATIONS` of choices, as it may with many layers whose losses are
            nearly proportional to their bytes; sizes rounded up, to 1024 bytes say, make more of them comparable.
    """
    _check(choices, byte_budget)
    layers = [_undominated(options) for options in choices.values()]
    # Losses of this size are lost in rounding, when sums of losses are compared.
    rounding = 1e-12 * sum(max(abs(choice.loss) for choice in options) for options in layers)
    sizes, losses, found = np.zeros(1), np.zeros(1), np.inf
    taken: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    tried = 0
    for index, options in enumerate(layers):
        tried += len(sizes) * len(options)
        if tried > MOST_COMBINATIONS:
            raise ValueError(
                f"the best choice for {len(layers)} layers is not found among {MOST_COMBINATIONS} combinations, as too "
                "many lose about as much for as many bytes; with sizes rounded up, to 1024 say, fewer differ"
            )
        sizes = np.add.outer(sizes, [choice.size for choice in options]).ravel()
        losses = np.add.outer(losses, [choice.loss for choice in options]).ravel()
        ends, gains = _envelope(layers[index + 1 :])
        rest = byte_budget - sizes
        whole = np.searchsorted(ends, rest, side="right") - 1
        found = min(found, np.where(whole >= 0, losses + gains[whole], np.inf).min())
        hopeful = (whole >= 0) & (losses + np.interp(rest, ends, gains) <= found + rounding)
        kept = _pareto(sizes, losses, np.flatnonzero(hopeful))
        sizes, losses = sizes[kept], losses[kept]
        taken.append(np.divmod(kept, len(options)))
    state, picked = int(np.argmin(losses)), list[Choice]()
    for options, (before, choice) in zip(reversed(layers), reversed(taken), strict=True):
        picked.append(options[choice[state]])
        state = before[state]
    return {name: choice.bits for name, choice in zip(choices, reversed(picked), strict=True)}


def _undominated(options: Sequence[Choice]) -> list[Choice]:
    """Sort choices by size, and leave out those that lose no less than a smaller one."""
    kept: list[Choice] = []
    for choice in sorted(options, key=lambda each: (each.size, each.loss)):
        if not kept or choice.loss < kept[-1].loss:
            kept.append(choice)
    return kept


def _pareto(sizes: Floats, losses: Floats, candidates: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return, by size, the candidates that have less loss than all smaller ones."""
    ordered = candidates[np.lexsort((losses[candidates], sizes[candidates]))]
    least = np.minimum.accumulate(np.append(np.inf, losses[ordered]))
    return ordered[losses[ordered] < least[:-1]]


def _envelope(layers: Sequence[list[Choice]]) -> tuple[Floats, Floats]:
    """Return bytes and losses of the corners of the linear relaxation; each corner is a choice for every layer."""
    steps = sorted(step for options in layers for step in _hull_steps(options))
    smallest = [options[0] for options in layers]
    sizes = np.cumsum([sum(choice.size for choice in smallest), *(size for _, size, _ in steps)], dtype=float)
    losses = np.cumsum([sum(choice.loss for choice in smallest), *(loss for _, _, loss in steps)], dtype=float)
    return sizes, losses


def _hull_steps(options: list[Choice]) -> Iterator[tuple[float, int, float]]:
    """Yield slope, bytes and loss of each step along the lower convex hull of undominated choices."""
    at = options[0]
    while at is not options[-1]:
        larger = (each for each in options if each.size > at.size)
        slope, to = min(((each.loss - at.loss) / (each.size - at.size), -each.size, each) for each in larger)[::2]
        yield slope, to.size - at.size, to.loss - at.loss
        at = to


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
    axis = output_axis(layer) if spec.axis == 0 else spec.axis
    channels = 1 if axis is None else weight.shape[axis]
    # A scale in float32, and a zero point of one byte unless it is the middle.
    return -(-weight.numel() * spec.bits // 8) + (4 if spec.symmetric else 5) * channels
