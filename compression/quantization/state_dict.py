"""A whole state dict as 8-bit codes with one range a tensor, or as 16-bit floats: the report's own method.

    packed = quantize_state_dict(model.state_dict(), bits=8)    # weights, biases and BatchNorm statistics
    model.load_state_dict(dequantize_state_dict(packed))

A code divides the range between a tensor's minimum and maximum evenly. Zero need not be among the values; where it
must be, see `affine`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from compression.quantization.affine import finite_float32

LARGEST_CODE: Final = 255


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A tensor as 8-bit codes that divide its own range evenly.

    Attributes:
        codes: uint8, of the tensor's shape; 0 stands for `minimum`, 255 for `maximum`.
        minimum: Smallest value of the tensor, a float32 number.
        maximum: Largest value of the tensor, a float32 number.

    Raises:
        ValueError: If the codes are not uint8, or the range is not finite and in order.
    """

    codes: Tensor
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if self.codes.dtype != torch.uint8:
            raise ValueError(f"codes have dtype {self.codes.dtype}; torch.uint8 is needed")
        finite = math.isfinite(self.minimum) and math.isfinite(self.maximum)
        if not finite or self.minimum > self.maximum:
            raise ValueError(
                f"range [{self.minimum}, {self.maximum}] must be finite, its minimum not above its maximum"
            )


def quantize(tensor: Tensor, name: str = "tensor") -> QuantizedTensor:
    """Round a tensor to 256 evenly spaced values between its minimum and maximum.

    codes = round((W - min) / (max - min) * 255). A constant tensor, for which that divides by zero,
    gets code 0 everywhere; an empty one gets the range [0, 0].

    Args:
        tensor: Floating point, of any shape; taken as float32.
        name: What an error calls the tensor.

    Returns:
        Codes on the tensor's device, and the range.

    Raises:
        ValueError: If the tensor is not floating point, or a value is not finite in float32.
    """
    # In float64, max - min of float32 numbers can't overflow, and the codes don't depend on its rounding.
    weights = finite_float32(tensor, name).double()
    if weights.numel() == 0:
        return QuantizedTensor(weights.to(torch.uint8), 0.0, 0.0)
    minimum, maximum = (float(bound) for bound in torch.aminmax(weights))
    if minimum == maximum:
        return QuantizedTensor(torch.zeros_like(weights, dtype=torch.uint8), minimum, maximum)
    codes = ((weights - minimum) / (maximum - minimum) * LARGEST_CODE).round()
    return QuantizedTensor(codes.to(torch.uint8), minimum, maximum)


def dequantize(quantized: QuantizedTensor) -> Tensor:
    """Return the float32 tensor that the codes stand for.

    Each value is within half a step, (max - min) / 510, of the one quantized, but for rounding to
    float32; minimum and maximum come back exactly.
    """
    codes = quantized.codes.double()
    # Weighing both ends, rather than adding steps to the minimum, hits the maximum exactly.
    weighted = (LARGEST_CODE - codes) * quantized.minimum + codes * quantized.maximum
    return (weighted / LARGEST_CODE).float()


def relative_error(tensor: Tensor) -> float:
    """Return the norm of what 8-bit quantization changes over the norm of the tensor, in float64.

    Args:
        tensor: Floating point, of any shape.

    Returns:
        ||dequantize(quantize(W)) - W|| / ||W||; 0 for a tensor that is empty or all zeros.

    Raises:
        ValueError: As `quantize`.
    """
    restored = dequantize(quantize(tensor)).double()
    weights = tensor.detach().double()
    norm = float(torch.linalg.vector_norm(weights))
    return float(torch.linalg.vector_norm(restored - weights)) / norm if norm > 0 else 0.0


def to_float16(tensor: Tensor, name: str = "tensor") -> Tensor:
    """Round a tensor to float16.

    Args:
        tensor: Floating point, of any shape.
        name: What an error calls the tensor.

    Raises:
        ValueError: If the tensor is not floating point, or a value is not finite or beyond 65504,
            float16's largest.
    """
    weights = finite_float32(tensor, name)
    limit = torch.finfo(torch.float16).max
    largest = float(weights.abs().max()) if weights.numel() else 0.0
    if largest > limit:
        raise ValueError(f"{name!r} holds a value of magnitude {largest:g}; float16 ends at {limit:g}")
    return weights.half()


_COMPRESSORS: Final[Mapping[int, Callable[[Tensor, str], QuantizedTensor | Tensor]]] = MappingProxyType(
    {8: quantize, 16: to_float16}
)


def quantize_state_dict(state: Mapping[str, Tensor], bits: int) -> dict[str, QuantizedTensor | Tensor]:
    """Quantize all floating point tensors of a state dict: weights, biases, BatchNorm statistics.

    Args:
        state: Tensors by name, as `nn.Module.state_dict` gives them.
        bits: 8 for codes with one range per tensor, 16 for float16.

    Returns:
        In the same order, a `QuantizedTensor` (8) or a float16 tensor (16) for each; scalars (0-dim) and
        integer buffers, such as `num_batches_tracked`, as copies.

    Raises:
        ValueError: If `bits` is neither, or a tensor, then named, can't be held in that many bits.
    """
    if bits not in _COMPRESSORS:
        raise ValueError(f"bits must be one of {sorted(_COMPRESSORS)}, not {bits!r}")
    compress = _COMPRESSORS[bits]
    return {
        name: compress(tensor, name) if tensor.is_floating_point() and tensor.ndim > 0 else tensor.detach().clone()
        for name, tensor in state.items()
    }


def dequantize_state_dict(state: Mapping[str, QuantizedTensor | Tensor]) -> dict[str, Tensor]:
    """Restore a state dict that `quantize_state_dict` quantized; all floating point becomes float32."""
    return {name: _restore(entry) for name, entry in state.items()}


def _restore(entry: QuantizedTensor | Tensor) -> Tensor:
    if isinstance(entry, QuantizedTensor):
        return dequantize(entry)
    return entry.float() if entry.is_floating_point() else entry
