"""A state dict in one safetensors file, at 32, 16 or 8 bits a weight.

The file's metadata hold one entry, a JSON object with the format's version, the bits, and the names of
the tensors that are stored as codes. Row i of the float32 tensor `RANGES` is the minimum and maximum of
the i-th of these.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from compression.atomic_file import replacing
from compression.quantization.state_dict import QuantizedTensor, dequantize_state_dict, quantize_state_dict

VERSION: Final = 1
BITS: Final = (8, 16, 32)
RANGES: Final = "quantization.ranges"
# One entry only: safetensors writes several in an order that changes from process to process.
_HEADER: Final = "compression.checkpoint"
_RESERVED_NAMES: Final = (RANGES, "__metadata__")


class CheckpointError(ValueError):
    """A file that is no sound checkpoint; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class _Header:
    bits: int
    quantized: tuple[str, ...]


def save_state_dict(state: Mapping[str, Tensor], path: str | os.PathLike[str], bits: int = 32) -> int:
    """Writes a state dict to one file, which appears complete or not at all.

    The same state gives the same bytes. Tensors that share memory are stored one by one.

    Args:
        state: Floating point and integer tensors by name, of any layout and device.
        path: File to write or replace, in a folder that exists.
        bits: 32 for float32, 16 for float16, 8 for codes with one range per tensor. Scalars (0-dim) stay
            float32, integer tensors keep their dtype.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If `bits` is none of these, a name is reserved, or a tensor can't be held so.
        OSError: If the file can't be written.
    """
    if bits not in BITS:
        raise ValueError(f"bits must be one of {BITS}, not {bits!r}")
    _check_state(state)
    compressed = dict(state) if bits == 32 else quantize_state_dict(state, bits)
    payload = _serialize(compressed, bits)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(payload)
    return len(payload)


def load_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Reads a state dict that `save_state_dict` wrote.

    Returns:
        Tensors by their original names, in their original shapes, on the CPU: float32, or for integer
        tensors the dtype they had.

    Raises:
        CheckpointError: If the file is damaged, foreign, or inconsistent in itself.
        OSError: If there is no such file, or it can't be read.
    """
    path = Path(path)
    metadata, stored = _read_file(path)
    try:
        header = _parse_header(metadata)
        return dequantize_state_dict(_unpack(header, stored))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_state(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if name in _RESERVED_NAMES:
            raise ValueError(f"{name!r} is reserved by the file format; rename that tensor")
        if tensor.is_complex():
            raise ValueError(f"{name!r} has dtype {tensor.dtype}; a real tensor is needed")


def _serialize(compressed: Mapping[str, QuantizedTensor | Tensor], bits: int) -> bytes:
    codes = {name: entry for name, entry in compressed.items() if isinstance(entry, QuantizedTensor)}
    stored = {name: _stored_form(entry, bits) for name, entry in compressed.items()}
    if codes:
        stored[RANGES] = torch.tensor([(entry.minimum, entry.maximum) for entry in codes.values()], dtype=torch.float32)
    header = json.dumps({"version": VERSION, "bits": bits, "quantized": list(codes)}, separators=(",", ":"))
    return safetensors.torch.save(stored, {_HEADER: header})


def _stored_form(entry: QuantizedTensor | Tensor, bits: int) -> Tensor:
    tensor = entry.codes if isinstance(entry, QuantizedTensor) else entry.detach()
    if tensor.is_floating_point() and not (bits == 16 and tensor.ndim):
        tensor = tensor.float()
    return tensor.cpu().clone(memory_format=torch.contiguous_format)


def _read_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = file.keys()
            # Cloned: the tensors that come out lie in the mapped file, which another process may cut short.
            return file.metadata() or {}, {name: file.get_tensor(name).clone() for name in names}
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from error


def _parse_header(metadata: Mapping[str, str]) -> _Header:
    if _HEADER not in metadata:
        raise CheckpointError(f"metadata have no {_HEADER!r}, so this is another program's file")
    try:
        fields: Any = json.loads(metadata[_HEADER])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"metadata {_HEADER!r} are no JSON ({error})") from error
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        found = fields.get("version") if isinstance(fields, dict) else fields
        raise CheckpointError(f"format version is {found!r}; this program reads {VERSION}")
    bits, quantized = fields.get("bits"), fields.get("quantized")
    if not isinstance(bits, int) or bits not in BITS:
        raise CheckpointError(f"bits are {bits!r}; one of {BITS} is needed")
    if not isinstance(quantized, list) or not all(isinstance(name, str) for name in quantized):
        raise CheckpointError(f"'quantized' is {quantized!r}; a list of tensor names is needed")
    if len(set(quantized)) != len(quantized) or (quantized and bits != 8):
        raise CheckpointError(f"'quantized' lists a name twice, or any at {bits} bits: {quantized}")
    return _Header(bits, tuple(quantized))


def _unpack(header: _Header, stored: Mapping[str, Tensor]) -> dict[str, QuantizedTensor | Tensor]:
    tensors = dict(stored)
    ranges = _checked_ranges(tensors.pop(RANGES, torch.empty(0, 2)), len(header.quantized))
    entries: dict[str, QuantizedTensor | Tensor] = {}
    for name, (minimum, maximum) in zip(header.quantized, ranges, strict=True):
        if name not in tensors:
            raise CheckpointError(f"tensor {name!r}, listed as quantized, is missing")
        entries[name] = _quantized(name, tensors.pop(name), minimum, maximum)
    for name, tensor in tensors.items():
        _check_dtype(name, tensor, header.bits)
        entries[name] = tensor
    return entries


def _checked_ranges(ranges: Tensor, count: int) -> list[tuple[float, float]]:
    if ranges.dtype != torch.float32 or ranges.shape != (count, 2):
        raise CheckpointError(
            f"{RANGES!r} is {ranges.dtype} of shape {tuple(ranges.shape)}; "
            f"torch.float32 of shape {(count, 2)} is needed, a row for each quantized tensor"
        )
    return [(minimum, maximum) for minimum, maximum in ranges.tolist()]


def _quantized(name: str, codes: Tensor, minimum: float, maximum: float) -> QuantizedTensor:
    try:
        return QuantizedTensor(codes, minimum, maximum)
    except ValueError as error:
        raise CheckpointError(f"quantized tensor {name!r}: {error}") from error


def _check_dtype(name: str, tensor: Tensor, bits: int) -> None:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    expected = torch.float16 if bits == 16 and tensor.ndim else torch.float32
    if tensor.dtype != expected or (bits == 8 and tensor.ndim):
        wanted = "codes with a range" if bits == 8 and tensor.ndim else expected
        raise CheckpointError(f"tensor {name!r} is {tensor.dtype}; at {bits} bits {wanted} is needed")
