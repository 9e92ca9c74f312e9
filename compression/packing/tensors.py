"""Quantized tensors as entries of a header and the tensors of a file.

    entries, stored = encode_tensors({"weight": quantize_affine(weight, AffineSpec(bits=4)), "bias": bias})
    again = decode_tensors(entries, stored)

Codes become one uint8 tensor each, packed bits or entropy-coded, whichever is smaller. Scales, centroids and ranges of
all tensors lie one after another in `FLOATS`, zero points in `ZERO_POINTS`, in the order of the entries.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from compression.packing import entropy
from compression.packing.bits import Bytes, pack_bits, unpack_bits
from compression.packing.container import PackedFileError
from compression.quantization import QuantizedTensor, dequantize
from compression.quantization.affine import AffineTensor, Grid
from compression.quantization.codebook import CodebookTensor

RESERVED: Final = "#"
FLOATS: Final = "#floats"
ZERO_POINTS: Final = "#zero_points"
LARGEST_RATIO: Final = 1024
"""Codes that a byte of a file may stand for. Trained weights stay far below; a file made to exhaust memory does not."""

DEFAULT_LIMIT: Final = 4 << 30
"""Bytes that the tensors of a file may take as float32, unless the reader allows more."""

DTYPES: Final = {str(dtype): dtype for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


@dataclass(frozen=True, eq=False)
class CastTensor:
    """A tensor in a shorter floating point type than the one it is to have.

    Attributes:
        values: float16 or bfloat16.
        dtype: What it becomes again.
    """

    values: Tensor
    dtype: torch.dtype

    def dequantize(self) -> Tensor:
        """The tensor in its own type."""
        return self.values.to(self.dtype)


Codes: TypeAlias = AffineTensor | CodebookTensor | QuantizedTensor
Packable: TypeAlias = Tensor | CastTensor | Codes


def restore(packed: Packable) -> Tensor:
    """The plain tensor that a packed one stands for."""
    if isinstance(packed, QuantizedTensor):
        return dequantize(packed)
    return packed if isinstance(packed, Tensor) else packed.dequantize()


def encode_tensors(
    tensors: Mapping[str, Packable], entropy_coded: bool = True
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Turns tensors into header entries and what is stored.

    Args:
        tensors: By name.
        entropy_coded: Whether codes may be entropy-coded where that is smaller; needs the extra [entropy].

    Raises:
        ValueError: If a name starts with `RESERVED`.
    """
    writer = _Writer(entropy_coded)
    for name, tensor in tensors.items():
        if name.startswith(RESERVED) or name == "__metadata__":
            raise ValueError(f"tensor {name!r}: names may not start with {RESERVED!r} or be '__metadata__'")
        writer.entries.append({"name": name, **writer.entry(name, tensor)})
    return writer.entries, writer.all_stored()


@dataclass
class _Writer:
    entropy_coded: bool
    entries: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, Tensor] = field(default_factory=dict)
    floats: list[Tensor] = field(default_factory=list)
    zero_points: list[Tensor] = field(default_factory=list)

    def entry(self, name: str, tensor: Packable) -> dict[str, Any]:
        if isinstance(tensor, Tensor):
            self.stored[name] = tensor
            return {"kind": "plain"}
        if isinstance(tensor, CastTensor):
            self.stored[name] = tensor.values
            return {"kind": "cast", "dtype": str(tensor.dtype)}
        details = self._details(tensor)
        bits = details.get("bits", 8)
        codes = tensor.codes.cpu().contiguous().numpy().ravel()
        coding, stream = self._smallest(codes, bits)
        self.stored[name] = torch.from_numpy(stream)
        return {**details, "shape": list(tensor.codes.shape), "coding": coding}

    def _details(self, tensor: Codes) -> dict[str, Any]:
        if isinstance(tensor, AffineTensor):
            grid = tensor.grid
            self.floats.append(grid.scale)
            if not grid.symmetric:
                self.zero_points.append(grid.zero_point)
            return {"kind": "affine", "bits": grid.bits, "symmetric": grid.symmetric, "axis": grid.axis}
        if isinstance(tensor, CodebookTensor):
            self.floats.append(tensor.centroids)
            return {"kind": "codebook", "bits": tensor.bits, "centroids": len(tensor.centroids)}
        self.floats.append(torch.tensor([tensor.minimum, tensor.maximum]))
        return {"kind": "range"}

    def _smallest(self, codes: Bytes, bits: int) -> tuple[str, Bytes]:
        packed = pack_bits(codes, bits)
        if self.entropy_coded and codes.size:
            coded = entropy.encode(codes, bits)
            if len(coded) < len(packed) and codes.size <= LARGEST_RATIO * len(coded):
                return "ans", coded
        return "bits", packed

    def all_stored(self) -> dict[str, Tensor]:
        joined = dict(self.stored)
        if self.floats:
            joined[FLOATS] = torch.cat([numbers.detach().cpu().float() for numbers in self.floats])
        if self.zero_points:
            joined[ZERO_POINTS] = torch.cat([numbers.cpu() for numbers in self.zero_points]).to(torch.uint8)
        return joined


def decode_tensors(entries: object, stored: Mapping[str, Tensor], limit: int = DEFAULT_LIMIT) -> dict[str, Packable]:
    """Turns header entries and what is stored back into tensors.

    Args:
        entries: As `encode_tensors` gave them; anything else is an error.
        stored: The file's tensors.
        limit: Most bytes that all of them may take as float32. It is checked before anything is decoded.

    Raises:
        PackedFileError: If entries and tensors do not fit each other, or exceed the limit.
        MissingCoderError: If they are entropy-coded, and the coder is not installed.
    """
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise PackedFileError(f"'tensors' is {str(entries)[:80]!r}; a list of objects is needed")
    _check_total(entries, stored, limit)
    reader = _Reader(stored)
    tensors: dict[str, Packable] = {}
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str) or name in tensors or name.startswith(RESERVED):
            raise PackedFileError(f"tensor name {name!r} is no text, reserved, or there twice")
        try:
            tensors[name] = reader.tensor(name, entry)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise PackedFileError(f"tensor {name!r}: {error}") from error
    reader.check_all_read()
    return tensors


def _check_total(entries: list[dict[str, Any]], stored: Mapping[str, Tensor], limit: int) -> None:
    total = sum(4 * tensor.numel() for tensor in stored.values())
    for entry in entries:
        shape = entry.get("shape", [])
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
            raise PackedFileError(f"tensor {entry.get('name')!r}: shape {str(shape)[:80]} is no list of sizes")
        if len(shape) > 16:
            raise PackedFileError(f"tensor {entry.get('name')!r}: {len(shape)} dimensions; at most 16 are read")
        total += 4 * math.prod(shape) if "shape" in entry else 0
    if total > limit:
        raise PackedFileError(f"its tensors take {total} bytes unpacked; the limit is {limit}")


class _Reader:
    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self.stored = dict(stored)
        self.floats = self.stored.pop(FLOATS, torch.empty(0))
        self.zero_points = self.stored.pop(ZERO_POINTS, torch.empty(0, dtype=torch.uint8))
        for name, numbers, dtype in (
            (FLOATS, self.floats, torch.float32),
            (ZERO_POINTS, self.zero_points, torch.uint8),
        ):
            if numbers.dtype != dtype or numbers.ndim != 1:
                raise PackedFileError(
                    f"{name!r} is {numbers.dtype} of {numbers.ndim} dimensions; a row of {dtype} needed"
                )

    def tensor(self, name: str, entry: Mapping[str, Any]) -> Packable:
        kind = entry.get("kind")
        if name not in self.stored:
            raise ValueError("listed in the header, but not stored")
        stored = self.stored.pop(name)
        if kind == "plain":
            return stored
        if kind == "cast":
            return CastTensor(stored, DTYPES[entry["dtype"]])
        if kind == "affine":
            return self._affine(stored, entry)
        if kind == "codebook":
            return self._codebook(stored, entry)
        if kind == "range":
            low, high = self._take_floats(2).tolist()
            return QuantizedTensor(_codes(stored, entry, 8), low, high)
        raise ValueError(f"kind {kind!r} is unknown")

    def _affine(self, stored: Tensor, entry: Mapping[str, Any]) -> AffineTensor:
        bits, symmetric, axis = entry["bits"], entry["symmetric"], entry["axis"]
        if type(bits) is not int or type(symmetric) is not bool or type(axis) not in (int, type(None)):
            raise ValueError(
                f"bits {bits!r}, symmetric {symmetric!r}, axis {axis!r} are not a number, a truth, an axis"
            )
        scale = self._take_floats(1 if axis is None else entry["shape"][axis])
        if symmetric:
            zero_point = torch.full(scale.shape, 2 ** (bits - 1) if bits in range(2, 9) else 0, dtype=torch.int32)
        else:
            zero_point, self.zero_points = self.zero_points[: len(scale)].int(), self.zero_points[len(scale) :]
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise ValueError("a scale is not above zero and finite")
        return AffineTensor(_codes(stored, entry, bits), Grid(scale, zero_point, bits, symmetric, axis))

    def _codebook(self, stored: Tensor, entry: Mapping[str, Any]) -> CodebookTensor:
        bits, count = entry["bits"], entry["centroids"]
        if type(bits) is not int or type(count) is not int:
            raise ValueError(f"bits {bits!r} and centroids {count!r} must be numbers")
        return CodebookTensor(_codes(stored, entry, bits), self._take_floats(count), bits)

    def _take_floats(self, count: int) -> Tensor:
        if not 0 <= count <= len(self.floats):
            raise ValueError(
                f"{count} scales, centroids or bounds are needed; {len(self.floats)} are left in {FLOATS!r}"
            )
        taken, self.floats = self.floats[:count].clone(), self.floats[count:]
        return taken

    def check_all_read(self) -> None:
        if self.stored or len(self.floats) or len(self.zero_points):
            raise PackedFileError(
                f"the header does not list the tensors {sorted(self.stored)[:5]}, "
                f"{len(self.floats)} floats and {len(self.zero_points)} zero points"
            )


def _codes(stored: Tensor, entry: Mapping[str, Any], bits: int) -> Tensor:
    if stored.dtype != torch.uint8 or stored.ndim != 1:
        raise ValueError(f"stored as {stored.dtype} of {stored.ndim} dimensions; a row of torch.uint8 is needed")
    if bits not in range(1, 9):
        raise ValueError(f"bits are {bits!r}; 1 to 8 are possible")
    shape, stream, coding = entry["shape"], stored.numpy(), entry["coding"]
    count = math.prod(shape)
    if coding == "bits":
        codes = unpack_bits(stream, bits, count)
    elif coding == "ans":
        if count > LARGEST_RATIO * len(stream):
            raise ValueError(f"{count} codes in {len(stream)} bytes; at most {LARGEST_RATIO} a byte are read")
        codes = entropy.decode(stream, bits, count)
    else:
        raise ValueError(f"coding {coding!r} is unknown")
    return torch.from_numpy(np.ascontiguousarray(codes)).reshape(shape)
