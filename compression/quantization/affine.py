"""Affine quantization at 2 to 8 bits: value = scale * (code - zero point), as ONNX's QuantizeLinear has it.

    spec = AffineSpec(bits=4, axis=0, ranges=least_squares)     # per output channel, symmetric
    quantized = quantize_affine(conv.weight, spec, "conv.weight")
    quantized.codes, quantized.grid.scale                       # uint8 codes, a scale for each channel
    restored = quantized.dequantize()                           # float32, of conv.weight's shape

Follows Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(2018). Zero is always represented exactly, so that pruned weights and padding stay zero.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from compression.quantization.ranges import RangeRule, min_max

BITS: Final = range(2, 9)


@dataclass(frozen=True)
class AffineSpec:
    """How a tensor is quantized.

    Attributes:
        bits: 2 to 8.
        symmetric: Codes lie evenly around zero (2^bits - 1 of them, so that -1 and 1 are equally far); else all 2^bits
            codes span the range, with zero among them.
        axis: Dimension that has a scale for each index, such as 0 for a convolution's output channels; None for one
            scale.
        ranges: Rule that chooses the range: `ranges.min_max`, `ranges.percentile`, `ranges.least_squares`.

    Raises:
        ValueError: If `bits` is no int, or not 2 to 8.
    """

    bits: int = 8
    symmetric: bool = True
    axis: int | None = 0
    ranges: RangeRule = min_max

    def __post_init__(self) -> None:
        _check_bits(self.bits)


@dataclass(frozen=True, eq=False)
class Grid:
    """The values that codes stand for.

    Attributes:
        scale: float32, (channels,) or (1,), above zero and finite.
        zero_point: int32, of the same shape: the code of value zero.
        bits: 2 to 8.
        symmetric: Whether the zero point is 2^(bits-1), and code 0 unused.
        axis: Dimension of the channels; None for one scale.

    Raises:
        ValueError: If these do not fit each other.
    """

    scale: Tensor
    zero_point: Tensor
    bits: int
    symmetric: bool
    axis: int | None

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        if self.scale.dtype != torch.float32 or self.zero_point.dtype != torch.int32:
            raise ValueError(
                f"scale is {self.scale.dtype}, zero point {self.zero_point.dtype}; torch.float32, int32 needed"
            )
        if self.scale.ndim != 1 or self.scale.shape != self.zero_point.shape:
            shapes = tuple(self.scale.shape), tuple(self.zero_point.shape)
            raise ValueError(f"scale and zero point have shapes {shapes}; one number a channel is needed")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError(f"{len(self.scale)} scales without an axis; one is needed")

    @property
    def lowest(self) -> int:
        """The least code in use."""
        return 1 if self.symmetric else 0

    @property
    def highest(self) -> int:
        """The greatest code in use."""
        return int(2**self.bits - 1)

    def along(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and zero point, both float32, shaped to be broadcast over a tensor.

        Raises:
            ValueError: If the tensor's channels are not the grid's.
        """
        shape = [1] * tensor.ndim
        if self.axis is not None:
            if not -tensor.ndim <= self.axis < tensor.ndim or tensor.shape[self.axis] != len(self.scale):
                raise ValueError(
                    f"a tensor of shape {tuple(tensor.shape)} has no {len(self.scale)} channels on axis {self.axis}"
                )
            shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape).to(self.scale.dtype)


@dataclass(frozen=True, eq=False)
class AffineTensor:
    """A tensor as codes on a grid.

    Attributes:
        codes: uint8, of the tensor's shape.
        grid: What they stand for.
        dtype: Floating point type that values are restored in.

    Raises:
        ValueError: If the codes are not uint8, don't fit the grid's channels, or leave its codes.
    """

    codes: Tensor
    grid: Grid
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.codes.dtype != torch.uint8:
            raise ValueError(f"codes have dtype {self.codes.dtype}; torch.uint8 is needed")
        self.grid.along(self.codes)
        if self.codes.numel():
            low, high = (int(bound) for bound in torch.aminmax(self.codes))
            if low < self.grid.lowest or high > self.grid.highest:
                raise ValueError(
                    f"codes span {low} to {high}; {self.grid.lowest} to {self.grid.highest} are this grid's"
                )

    def dequantize(self) -> Tensor:
        """Return the tensor of the codes, (code - zero point) * scale computed in float32, in its own type."""
        scale, zero_point = self.grid.along(self.codes)
        return ((self.codes.float() - zero_point) * scale).to(self.dtype)


def quantize_affine(tensor: Tensor, spec: AffineSpec, name: str = "tensor") -> AffineTensor:
    """Quantize a tensor on a grid fitted to it.

    Args:
        tensor: Floating point; taken as float32.
        spec: How to quantize.
        name: What an error calls the tensor.

    Returns:
        Codes and grid, on the tensor's device. Values inside the chosen range are off by half a step at most, but for
        float32's rounding.

    Raises:
        ValueError: If the tensor is not floating point, not finite, or has no such axis.
    """
    values = finite_float32(tensor, name)
    return encode(values, fit_grid(values, spec, name))


def fit_grid(tensor: Tensor, spec: AffineSpec, name: str = "tensor") -> Grid:
    """Fit a grid to a tensor by a spec's rule; see `quantize_affine`."""
    rows = _rows(finite_float32(tensor, name).double(), spec.axis, name)
    levels = 2**spec.bits - (2 if spec.symmetric else 1)
    if len(rows) == 0:
        return grid_of_range(rows.new_zeros(0), rows.new_zeros(0), spec)
    if rows.shape[1] == 0:
        rows = rows.new_zeros(rows.shape[0], 1)
    limits = torch.finfo(tensor.dtype)
    # Of smaller steps the tensor's type could not tell one from the next.
    return grid_of_range(*spec.ranges(rows, levels, spec.symmetric), spec, least=limits.tiny * limits.eps)


def grid_of_range(low: Tensor, high: Tensor, spec: AffineSpec, least: float = 0.0) -> Grid:
    """Make the grid whose lowest code stands for about `low`, and whose highest for about `high`.

    Args:
        low: float64, (channels,) or (1,), none above zero.
        high: Of the same shape, none below zero.
        spec: Gives bits, symmetry and axis; its rule is not used.
        least: Smallest scale allowed; float32's least normal number if that is larger.
    """
    limits = torch.finfo(torch.float32)
    levels = 2**spec.bits - (2 if spec.symmetric else 1)
    # Below the least normal number float32 loses digits; a range of width zero gets some grid, too.
    step = (high / levels - low / levels).clamp(min=max(limits.tiny, least))
    if spec.symmetric:
        zero_point, reach = torch.full_like(step, 2 ** (spec.bits - 1)), torch.full_like(step, levels / 2)
    else:
        zero_point = (-low / step).round().clamp(0, levels)
        reach = torch.maximum(zero_point, levels - zero_point)
    # Rounded up, a scale might carry the outermost code beyond the largest number.
    scale = torch.minimum(step, limits.max / reach * (1 - limits.eps)).float()
    return Grid(scale, zero_point.int(), spec.bits, spec.symmetric, spec.axis)


def encode(tensor: Tensor, grid: Grid) -> AffineTensor:
    """Encode a tensor on a grid: clamp(round(value / scale) + zero point), ties to even, in float32."""
    scale, zero_point = grid.along(tensor)
    codes = (torch.round(tensor.detach().float() / scale) + zero_point).clamp(grid.lowest, grid.highest)
    return AffineTensor(codes.to(torch.uint8), grid)


def finite_float32(tensor: Tensor, name: str) -> Tensor:
    """Return a tensor, detached, as float32.

    Raises:
        ValueError: If it is not floating point, or not finite as float32.
    """
    if not tensor.is_floating_point():
        raise ValueError(f"{name!r} has dtype {tensor.dtype}; a floating point tensor is needed")
    values = tensor.detach().float()
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{name!r} holds {bad} values that are not finite in float32")
    return values


def _rows(values: Tensor, axis: int | None, name: str) -> Tensor:
    if axis is None:
        return values.reshape(1, -1)
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"{name!r} of shape {tuple(values.shape)} has no axis {axis}")
    moved = values.movedim(axis, 0)
    return moved.reshape(len(moved), math.prod(moved.shape[1:]))


def _check_bits(bits: int) -> None:
    if type(bits) is not int:
        raise ValueError(f"bits are {bits!r}, of type {type(bits).__name__}; an int is needed")
    if bits not in BITS:
        raise ValueError(f"bits are {bits!r}; {BITS[0]} to {BITS[-1]} are possible")
