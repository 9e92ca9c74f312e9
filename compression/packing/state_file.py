"""A state dict in a packed file.

    save_state_dict(model.state_dict(), "model.safetensors")                # float32; at 16 and 8 bits, too
    pack_state_dict(model.state_dict(), "small.safetensors", affine(AffineSpec(bits=4)))
    model.load_state_dict(load_state_dict("small.safetensors"))             # reads both, as float tensors

A method takes a tensor and its name, and returns what the file shall hold. `affine` and `codebook` quantize floating
point tensors of two or more dimensions (kernels and matrices: nearly all bytes), and leave biases and norms as they
are.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import torch
from torch import Tensor

from compression.packing.container import PackedFileError, read, write
from compression.packing.tensors import (
    DEFAULT_LIMIT,
    CastTensor,
    Packable,
    decode_tensors,
    encode_tensors,
    restore,
    stored_size,
)
from compression.quantization.affine import AffineSpec, finite_float32, quantize_affine
from compression.quantization.codebook import quantize_codebook
from compression.quantization.state_dict import QuantizedTensor, quantize, quantize_state_dict

VERSION: Final = 1
STATE_KEYS: Final = frozenset({"version", "tensors"})
"""What the header of a state dict's file has; a model's has more."""

BITS: Final = (8, 16, 32)
"""What `save_state_dict` can hold a number in."""

Method: TypeAlias = Callable[[Tensor, str], Packable]


def affine(spec: AffineSpec) -> Method:
    """Make the method that quantizes tensors of two or more dimensions on affine grids."""
    return lambda tensor, name: quantize_affine(tensor, spec, name) if _is_kernel(tensor) else tensor


def codebook(bits: int) -> Method:
    """Make the method that gives each tensor of two or more dimensions a k-means codebook."""
    return lambda tensor, name: quantize_codebook(tensor, bits, name) if _is_kernel(tensor) else tensor


def min_max_bytes() -> Method:
    """Make the report's method: 8 bits between minimum and maximum for floating point tensors, scalars left out."""
    return lambda tensor, name: quantize(tensor, name) if tensor.is_floating_point() and tensor.ndim else tensor


def cast(dtype: torch.dtype) -> Method:
    """Make the method that casts all floating point tensors to a shorter floating point type.

    Raises:
        ValueError: On packing, if a value is beyond the type's range.
    """

    def shorten(tensor: Tensor, name: str) -> Packable:
        if not tensor.is_floating_point():
            return tensor
        short = finite_float32(tensor, name).to(dtype)
        if not bool(torch.isfinite(short).all()):
            raise ValueError(f"{name!r} holds a value beyond {torch.finfo(dtype).max:g}, the end of {dtype}")
        return CastTensor(short, tensor.dtype)

    return shorten


def pack_tensors(state: Mapping[str, Tensor], method: Method) -> dict[str, Packable]:
    """Apply a method to each tensor of a state dict.

    Raises:
        ValueError: If a tensor, then named, can't be held so, or is no tensor.
    """
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name!r} is a {type(tensor).__name__}; tensors are needed")
    return {name: method(tensor.detach(), name) for name, tensor in state.items()}


def pack_state_dict(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], method: Method, entropy_coded: bool = True
) -> int:
    """Write a state dict to one file by a method of choice; the file appears complete or not at all.

    Args:
        state: Tensors by name.
        path: File to write or replace.
        method: `affine`, `codebook`, `min_max_bytes`, `cast`, or one of your own.
        entropy_coded: Whether codes are entropy-coded where that is smaller.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If a tensor can't be held so.
        OSError: If the file can't be written.
    """
    return write_packed(pack_tensors(state, method), path, entropy_coded)


def save_state_dict(state: Mapping[str, Tensor], path: str | os.PathLike[str], bits: int = 32) -> int:
    """Write a state dict in the report's way: all numbers at the same number of bits, no entropy coding.

    The file appears complete or not at all. The same state gives the same bytes.

    Args:
        state: Floating point and integer tensors by name, of any layout and device. Tensors that share memory are
            stored each for itself.
        path: File to write or replace, in a folder that exists.
        bits: 32 for float32, 16 for float16, 8 for codes between each tensor's minimum and maximum. Floating point
            scalars (0-dim) stay float32, integers keep their type.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If `bits` is none of these, or a tensor can't be held so.
        OSError: If the file can't be written.
    """
    if bits not in BITS:
        raise ValueError(f"bits must be one of {BITS}, not {bits!r}")
    quantized = dict(state) if bits == 32 else quantize_state_dict(state, bits)
    return write_packed({name: _at(entry, bits) for name, entry in quantized.items()}, path, entropy_coded=False)


def _at(entry: QuantizedTensor | Tensor, bits: int) -> Packable:
    if isinstance(entry, QuantizedTensor) or not entry.is_floating_point():
        return entry
    return CastTensor(entry, torch.float32) if bits == 16 and entry.ndim else entry.detach().float()


def write_packed(packed: Mapping[str, Packable], path: str | os.PathLike[str], entropy_coded: bool = True) -> int:
    """Write tensors that a method has been applied to; `pack_state_dict` does both.

    Raises:
        ValueError: If a file can't hold a tensor's type or name.
        OSError: If the file can't be written.
    """
    entries, stored = encode_tensors(packed, entropy_coded)
    return write(Path(path), {"version": VERSION, "tensors": entries}, stored)


def read_packed(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> dict[str, Packable]:
    """Read the tensors of a packed file, a state dict's or a model's, as they are packed; see `read_with_sizes`."""
    return read_with_sizes(path, limit)[0]


def read_with_sizes(
    path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT
) -> tuple[dict[str, Packable], dict[str, int]]:
    """Read the tensors of a packed file, and the bytes that each takes in it.

    Raises:
        PackedFileError: If the file is damaged, foreign, inconsistent in itself, or unpacks to more than `limit` bytes.
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    try:
        header, stored = read(Path(path))
        check_version(header.get("version"))
        tensors = decode_tensors(header.get("tensors"), stored, limit)
        return tensors, {entry["name"]: stored_size(entry) for entry in header["tensors"]}
    except PackedFileError as error:
        raise PackedFileError(f"{os.fspath(path)}: {error}") from error


def load_state_dict(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> dict[str, Tensor]:
    """Read the tensors of a packed file, a state dict's or a model's, as plain ones.

    Args:
        path: The file.
        limit: Most bytes that the tensors may take as float32.

    Returns:
        Tensors by name on the CPU, in the type that they had when they were packed; those of `save_state_dict`, and
        codes between minimum and maximum, as float32.

    Raises:
        PackedFileError: If the file is damaged, foreign, inconsistent in itself, or unpacks to more than `limit` bytes.
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    return {name: restore(packed) for name, packed in read_packed(path, limit).items()}


def check_version(version: object) -> None:
    """Check that this program can read a header's version.

    Raises:
        PackedFileError: If this program can't read it.
    """
    if version != VERSION or type(version) is not int:
        raise PackedFileError(f"format version is {version!r}; this program reads {VERSION}")


def _is_kernel(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1
