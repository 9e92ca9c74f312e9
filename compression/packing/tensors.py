"""Quantized tensors as entries of a header and the tensors of a file.

    entries, stored = encode_tensors({"weight": quantize_affine(weight, AffineSpec(bits=4)), "bias": bias})
    again = decode_tensors(entries, stored)

Each tensor's codes become a stream of bytes, packed bits or entropy-coded, whichever is smaller. In the file streams
lie one after another in the tensor `CODES`, and all other numbers in a tensor of their type, called after it, in the
order of the entries: a name and shape of its own for each small tensor would take more than its numbers.
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
from compression.packing.container import PackedFileError, checked_rows
from compression.quantization.affine import AffineTensor, Grid
from compression.quantization.codebook import CodebookTensor
from compression.quantization.state_dict import QuantizedTensor, dequantize

CODES: Final = "codes"
LARGEST_RATIO: Final = 1024
"""Codes that a byte of a file may stand for. Trained weights stay far below; a file made to exhaust memory does not."""

LARGEST_PRODUCT: Final = 1 << 60
"""What a shape's sizes may multiply to, zeros left out: torch multiplies them in 64 bits."""

RESERVED: Final = "__metadata__"
"""What safetensors call their metadata, and therefore no tensor."""

DEFAULT_LIMIT: Final = 4 << 30
"""Bytes that the tensors of a file may take as float32, unless the reader allows more."""

FLOATING: Final = ("float16", "bfloat16", "float32", "float64")
DTYPES: Final = {name: getattr(torch, name) for name in ("bool", "uint8", "int8", "int16", "int32", "int64", *FLOATING)}


@dataclass(frozen=True, eq=False)
class CastTensor:
    """A tensor in a shorter floating point type than the one it is to have.

    Attributes:
        values: float16 or bfloat16.
        dtype: The type that it becomes again.
    """

    values: Tensor
    dtype: torch.dtype

    def dequantize(self) -> Tensor:
        """Return the tensor in its own type."""
        return self.values.to(self.dtype)


Codes: TypeAlias = AffineTensor | CodebookTensor | QuantizedTensor
Packable: TypeAlias = Tensor | CastTensor | Codes


def restore(packed: Packable) -> Tensor:
    """Return the plain tensor that a packed one stands for."""
    if isinstance(packed, QuantizedTensor):
        return dequantize(packed)
    return packed if isinstance(packed, Tensor) else packed.dequantize()


def encode_tensors(
    tensors: Mapping[str, Packable], entropy_coded: bool = True
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Turn tensors into header entries and what is stored.

    Args:
        tensors: Tensors by name.
        entropy_coded: Whether codes may be entropy-coded where that is smaller.

    Returns:
        Entries in the tensors' order, and tensors to store, by type.

    Raises:
        ValueError: As `check_tensors`.
    """
    check_tensors(tensors)
    writer = _Writer(entropy_coded)
    entries = [{"name": name, **writer.entry(tensor)} for name, tensor in tensors.items()]
    return entries, {name: torch.cat(parts) for name, parts in writer.parts.items()}


def check_tensors(tensors: Mapping[str, Packable]) -> None:
    """Check that files can hold tensors of these types and names.

    Raises:
        ValueError: If a tensor's type, or the one that it is to have again, is not one of `DTYPES`, or it has a name
            that `check_names` refuses.
    """
    check_names(tensors)
    for name, tensor in tensors.items():
        for dtype in _types(tensor):
            if _name(dtype) not in DTYPES:
                raise ValueError(f"tensor {name!r} is {_name(dtype)}; one of {', '.join(DTYPES)} is needed")


def check_names(tensors: Mapping[str, Packable]) -> None:
    """Check that safetensors can hold tensors under their names.

    Raises:
        ValueError: If one is called `RESERVED`, or has half a surrogate pair in its name.
    """
    if RESERVED in tensors:
        raise ValueError(
            f"a tensor is called {RESERVED!r}, which safetensors keep for themselves; it needs another name"
        )
    for name in tensors:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"tensor {name!r} has half a surrogate pair in its name, which UTF-8 can't hold; rename it"
            ) from error


def stored_size(entry: Mapping[str, Any]) -> int:
    """Return the bytes that a tensor takes in the file, its scales, zero points or centroids included.

    Args:
        entry: An entry as `encode_tensors` returns it.
    """
    if entry["kind"] == "plain":
        return int(math.prod(entry["shape"])) * _dtype(entry["type"]).itemsize
    return int(entry["bytes"]) + _size_beside(entry)


def _size_beside(entry: Mapping[str, Any]) -> int:
    if entry["kind"] == "range":
        return 2 * 4
    if entry["kind"] == "codebook":
        return _centroid_dtype(entry).itemsize * int(entry["centroids"])
    scales = 1 if entry["axis"] is None else int(entry["shape"][entry["axis"]])
    return scales * (4 if entry["symmetric"] else 4 + 1)


def _types(tensor: Packable) -> tuple[torch.dtype, ...]:
    if isinstance(tensor, CastTensor):
        return tensor.values.dtype, tensor.dtype
    return (tensor.dtype,) if isinstance(tensor, Tensor) else ()


@dataclass(frozen=True)
class _Writer:
    entropy_coded: bool
    parts: dict[str, list[Tensor]] = field(default_factory=dict)

    def entry(self, tensor: Packable) -> dict[str, Any]:
        if isinstance(tensor, CastTensor):
            return {**self.entry(tensor.values), "becomes": _name(tensor.dtype)}
        if isinstance(tensor, Tensor):
            self._store(tensor)
            return {"kind": "plain", "type": _name(tensor.dtype), "shape": list(tensor.shape)}
        details = self._details(tensor)
        codes = tensor.codes.cpu().contiguous().numpy().ravel()
        coding, stream = self._smallest(codes, details.get("bits", 8))
        self._store(torch.from_numpy(stream), CODES)
        entry = {**details, "shape": list(tensor.codes.shape), "coding": coding, "bytes": len(stream)}
        if isinstance(tensor, QuantizedTensor) or tensor.dtype == torch.float32:
            return entry
        return {**entry, "becomes": _name(tensor.dtype)}

    def _details(self, tensor: Codes) -> dict[str, Any]:
        if isinstance(tensor, AffineTensor):
            grid = tensor.grid
            self._store(grid.scale)
            if not grid.symmetric:
                self._store(grid.zero_point.to(torch.uint8))
            return {"kind": "affine", "bits": grid.bits, "symmetric": grid.symmetric, "axis": grid.axis}
        if isinstance(tensor, CodebookTensor):
            self._store(tensor.centroids)
            details = {"kind": "codebook", "bits": tensor.bits, "centroids": len(tensor.centroids)}
            return details if tensor.centroids.dtype == torch.float32 else {**details, "type": "float64"}
        self._store(torch.tensor([tensor.minimum, tensor.maximum]))
        return {"kind": "range"}

    def _store(self, numbers: Tensor, name: str | None = None) -> None:
        flat = numbers.detach().cpu().reshape(-1)
        self.parts.setdefault(name or _name(flat.dtype), []).append(flat)

    def _smallest(self, codes: Bytes, bits: int) -> tuple[str, Bytes]:
        packed = pack_bits(codes, bits)
        if self.entropy_coded and codes.size:
            coded = entropy.encode(codes, bits)
            if len(coded) < len(packed) and codes.size <= LARGEST_RATIO * len(coded):
                return "ans", coded
        return "bits", packed


def decode_tensors(entries: object, stored: Mapping[str, Tensor], limit: int = DEFAULT_LIMIT) -> dict[str, Packable]:
    """Turn header entries and what is stored back into tensors.

    Args:
        entries: Entries as `encode_tensors` returns them; anything else is an error.
        stored: The file's tensors.
        limit: Most bytes that all of them may take as float32. It is checked before anything is decoded.

    Raises:
        PackedFileError: If entries and tensors do not fit each other, or exceed the limit.
    """
    rows = checked_rows("tensors", entries)
    _check_total(rows, limit)
    reader = _Reader(stored)
    tensors: dict[str, Packable] = {}
    for entry in rows:
        name = entry.get("name")
        if not isinstance(name, str) or name in tensors:
            raise PackedFileError(f"tensor name {str(name)[:80]!r} is no text, or there twice")
        try:
            tensors[name] = reader.tensor(entry)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise PackedFileError(f"tensor {name!r}: {error}") from error
    reader.check_all_read()
    return tensors


def _check_total(entries: list[dict[str, Any]], limit: int) -> None:
    total = 0
    for entry in entries:
        name, shape = str(entry.get("name"))[:80], entry.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
            raise PackedFileError(f"tensor {name!r}: shape {str(shape)[:80]} is no list of sizes")
        if len(shape) > 16:
            raise PackedFileError(f"tensor {name!r}: {len(shape)} dimensions; at most 16 are read")
        if math.prod(size or 1 for size in shape) > LARGEST_PRODUCT:
            raise PackedFileError(f"tensor {name!r}: sizes {shape} multiply to more than {LARGEST_PRODUCT}")
        total += 4 * math.prod(shape)
    if total > limit:
        raise PackedFileError(f"its tensors take {total} bytes unpacked; the limit is {limit}")


class _Reader:
    """What is stored, of which numbers are taken from the front."""

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self.rest = dict(stored)
        for name, numbers in stored.items():
            expected = "uint8" if name == CODES else name
            if _name(numbers.dtype) != expected or numbers.ndim != 1:
                found = f"{_name(numbers.dtype)} of {numbers.ndim} dimensions"
                raise PackedFileError(f"stored tensor {name[:80]!r} is {found}; a row of {expected[:80]} is needed")

    def tensor(self, entry: Mapping[str, Any]) -> Packable:
        kind, shape = entry.get("kind"), entry["shape"]
        if kind == "plain":
            values = self._take(str(entry["type"]), math.prod(shape)).reshape(shape)
            return CastTensor(values, _dtype(entry["becomes"])) if "becomes" in entry else values
        if kind == "affine":
            return self._affine(entry)
        if kind == "codebook":
            return self._codebook(entry)
        if kind == "range":
            low, high = self._take("float32", 2).tolist()
            return QuantizedTensor(self._codes(entry, 8), low, high)
        raise ValueError(f"kind {str(kind)[:80]!r} is unknown")

    def _affine(self, entry: Mapping[str, Any]) -> AffineTensor:
        bits, symmetric, axis = entry["bits"], entry["symmetric"], entry["axis"]
        if type(bits) is not int or type(symmetric) is not bool or type(axis) not in (int, type(None)):
            raise ValueError(
                f"bits {bits!r}, symmetric {symmetric!r}, axis {axis!r} are not a number, a truth, an axis"
            )
        count = 1 if axis is None else entry["shape"][axis]
        scale = self._take("float32", count)
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise ValueError("a scale is not above zero and finite")
        codes = self._codes(entry, bits)
        middle = torch.full((count,), 2 ** (bits - 1), dtype=torch.int32)
        zero_point = middle if symmetric else self._take("uint8", count).int()
        return AffineTensor(codes, Grid(scale, zero_point, bits, symmetric, axis), _restored_dtype(entry))

    def _codebook(self, entry: Mapping[str, Any]) -> CodebookTensor:
        bits, count = entry["bits"], entry["centroids"]
        if type(bits) is not int or type(count) is not int:
            raise ValueError(f"bits {bits!r} and centroids {count!r} must be numbers")
        centroids = self._take(_name(_centroid_dtype(entry)), count)
        return CodebookTensor(self._codes(entry, bits), centroids, bits, _restored_dtype(entry))

    def _codes(self, entry: Mapping[str, Any], bits: int) -> Tensor:
        if bits not in range(1, 9) or type(entry["bytes"]) is not int:
            raise ValueError(f"bits are {bits!r}, bytes {entry['bytes']!r}; 1 to 8 and a number are possible")
        stream = self._take(CODES, entry["bytes"]).numpy()
        return torch.from_numpy(np.ascontiguousarray(_decoded(stream, entry, bits))).reshape(entry["shape"])

    def _take(self, name: str, count: int) -> Tensor:
        available = self.rest.get(name, torch.empty(0))
        if not 0 <= count <= len(available):
            raise ValueError(f"{count} numbers of {name[:80]!r} are needed; {len(available)} are left in the file")
        if not count:
            return torch.empty(0, dtype=_dtype("uint8" if name == CODES else name))
        taken, self.rest[name] = available[:count].clone(), available[count:]
        return taken

    def check_all_read(self) -> None:
        left = {name: len(numbers) for name, numbers in self.rest.items() if len(numbers)}
        if left:
            raise PackedFileError(f"the header says nothing of the last numbers in the file: {left}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: object) -> torch.dtype:
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"type {str(name)[:80]!r} is unknown")
    return dtype


def _centroid_dtype(entry: Mapping[str, Any]) -> torch.dtype:
    return _dtype(entry.get("type", "float32"))


def _restored_dtype(entry: Mapping[str, Any]) -> torch.dtype:
    name = entry.get("becomes", "float32")
    if name not in FLOATING:
        raise ValueError(f"codes become {str(name)[:80]!r}; one of {', '.join(FLOATING)} is possible")
    return _dtype(name)


def _decoded(stream: Bytes, entry: Mapping[str, Any], bits: int) -> Bytes:
    count, coding = math.prod(entry["shape"]), entry["coding"]
    if coding == "bits":
        return unpack_bits(stream, bits, count)
    if coding != "ans":
        raise ValueError(f"coding {str(coding)[:80]!r} is unknown")
    if count > LARGEST_RATIO * len(stream):
        raise ValueError(f"{count} codes in {len(stream)} bytes; at most {LARGEST_RATIO} a byte are read")
    return entropy.decode(stream, bits, count)
