"""Fake quantization: a model computes with quantized weights while float ones are trained.

    model = quantize_weights(model, AffineSpec(bits=4))     # after training: grids stay as fitted
    model = follow_weights(model, min_max)                  # quantization-aware training: grids follow the weights
    train(model)
    model = bake(freeze(model))                             # plain layers again, their weights on the grid

Gradients pass straight through rounding where a value lies within the grid, and are zero outside (Bengio et al., 2013;
Jacob et al., 2018). Weights become torch parametrizations, so that the model can be called, trained, copied and
exported as before; `compression.packing` keeps the codes themselves.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compression.layers.weights import (
    check_unparametrized,
    output_axis,
    own_parametrized_class,
    replace_weight,
    weight_layers,
)
from compression.quantization.affine import AffineSpec, AffineTensor, Grid, encode, fit_grid
from compression.quantization.codebook import CodebookWeight
from compression.quantization.ranges import RangeRule


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Grid) -> Tensor:
        scale, zero_point = grid.along(values)
        codes = torch.round(values.float() / scale) + zero_point
        ctx.save_for_backward((codes >= grid.lowest) & (codes <= grid.highest))
        return ((codes.clamp(grid.lowest, grid.highest) - zero_point) * scale).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


def fake_quantize(values: Tensor, grid: Grid) -> Tensor:
    """Round values to a grid, in their own type, with the straight-through gradient."""
    result: Tensor = _StraightThrough.apply(values, grid)
    return result


class FakeQuantize(nn.Module):
    """A layer that rounds what passes through it to a grid.

    Args:
        grid: The grid. Its scale and zero point become buffers.
        ranges: Rule by which the grid is fitted anew to each tensor; None leaves it as it is.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid, ranges: RangeRule | None = None) -> None:
        super().__init__()
        self.bits, self.symmetric, self.axis, self.ranges = grid.bits, grid.symmetric, grid.axis, ranges
        # Buffers of their own: a grid may be shared.
        self.register_buffer("scale", grid.scale.clone())
        self.register_buffer("zero_point", grid.zero_point.clone())

    @property
    def grid(self) -> Grid:
        """The present grid."""
        return Grid(self.scale, self.zero_point, self.bits, self.symmetric, self.axis)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move as torch does, but keep the scale in float32 under `model.half()` and its like."""
        scale = self.scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.scale.dtype != scale.dtype:
            self.scale = scale.to(self.scale.device)
        return self

    def forward(self, values: Tensor) -> Tensor:
        """Round values to the grid, in their shape and type."""
        if self.ranges is not None and not values.is_meta:  # without data there is no range
            fitted = fit_grid(values, AffineSpec(self.bits, self.symmetric, self.axis, self.ranges))
            self.scale.copy_(fitted.scale)
            self.zero_point.copy_(fitted.zero_point)
            return fake_quantize(values, fitted)
        return fake_quantize(values, self.grid)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of the layer."""
        return f"bits={self.bits}, symmetric={self.symmetric}, axis={self.axis}"


class FakeQuantizedWeight(FakeQuantize):
    """Parametrization of a weight: the float one is kept and trained, the one on the grid is used."""

    def quantized(self, original: Tensor) -> AffineTensor:
        """Return the codes of the weight, which restore it in its type."""
        return replace(encode(original, self.grid), dtype=original.dtype)


def quantize_weights(model: nn.Module, spec: AffineSpec, skip: Iterable[str] = ()) -> nn.Module:
    """Return a copy of a model whose convolutional and linear weights are rounded to grids fitted to them.

    Args:
        model: Stays as it is.
        spec: How to quantize. With `axis=0` a transposed convolution's channels are taken from dimension 1, where
            they lie.
        skip: Names of layers to leave as they are.

    Raises:
        ValueError: If a name to skip is no such layer, or a weight is not finite or already parametrized.
    """
    return quantize_each(model, dict.fromkeys(weight_layers(model, skip), spec))


def quantize_each(model: nn.Module, specs: dict[str, AffineSpec]) -> nn.Module:
    """Quantize weights as `quantize_weights`, with a spec for each layer named; others stay as they are.

    Raises:
        ValueError: As `quantize_weights`, or if a name is no layer with weights.
    """
    quantized = copy.deepcopy(model)
    layers = weight_layers(quantized)
    for name, spec in specs.items():
        if name not in layers:
            raise ValueError(f"layer {name!r} is no convolution or linear layer of the model")
        layer = layers[name]
        check_unparametrized(name, layer)
        axis = output_axis(layer) if spec.axis == 0 else spec.axis
        attach_grid(layer, fit_grid(layer.get_parameter("weight"), replace(spec, axis=axis), f"{name}.weight"))
    return quantized


def attach_grid(layer: nn.Module, grid: Grid) -> None:
    """Round a layer's weight to a grid from now on."""
    own_parametrized_class(layer)
    parametrize.register_parametrization(layer, "weight", FakeQuantizedWeight(grid))


def follow_weights(model: nn.Module, ranges: RangeRule) -> nn.Module:
    """Return a copy of a quantized model that fits its weights' grids anew in each pass.

    That is quantization-aware training.
    """
    following = copy.deepcopy(model)
    for quantizer in _weight_quantizers(following):
        quantizer.ranges = ranges
    return following


def freeze(model: nn.Module) -> nn.Module:
    """Return a copy whose grids are fitted to the present weights for the last time."""
    frozen = copy.deepcopy(model)
    for layer in weight_layers(frozen).values():
        if parametrize.is_parametrized(layer, "weight"):
            with torch.no_grad():
                # Reading a parametrized weight fits its grid.
                _ = layer.weight
    for quantizer in _weight_quantizers(frozen):
        quantizer.ranges = None
    return frozen


def bake(model: nn.Module) -> nn.Module:
    """Return a copy whose quantized weights, affine and codebook, are plain parameters with the values in use.

    Layers that share a weight and quantize it alike share the new one.
    """
    baked = copy.deepcopy(model)
    made = dict[Tensor, nn.Parameter]()
    for layer in weight_layers(baked).values():
        if parametrize.is_parametrized(layer, "weight") and _is_ours(layer):
            original = layer.get_parameter("parametrizations.weight.original")
            with torch.no_grad():
                weight = layer.weight.clone()  # type: ignore[operator]
            replace_weight(layer, weight)
            first = made.setdefault(original, layer.get_parameter("weight"))
            if torch.equal(first, weight):
                layer.register_parameter("weight", first)
    return baked


def _is_ours(layer: nn.Module) -> bool:
    steps = layer.get_submodule("parametrizations.weight")
    return any(isinstance(step, FakeQuantizedWeight | CodebookWeight) for step in steps.children())


def _weight_quantizers(model: nn.Module) -> Iterator[FakeQuantizedWeight]:
    return (module for module in model.modules() if isinstance(module, FakeQuantizedWeight))
