"""A state dict in a packed file.

    pack_state_dict(model.state_dict(), "small.safetensors", affine(AffineSpec(bits=4)))
    state = unpack_state_dict("small.safetensors")      # float tensors, ready for load_state_dict

A method turns a tensor and its name into what is stored. `affine` and `codebook` take floating point tensors of two or
more dimensions (kernels and matrices: nearly all bytes) and leave biases and norms as they are.
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
from compression.quantization.state_dict import quantize

VERSION: Final = 1

Method: TypeAlias = Callable[[Tensor, str], Packable]


def affine(spec: AffineSpec) -> Method:
    """Affine codes for tensors of two or more dimensions."""
    return lambda tensor, name: quantize_affine(tensor, spec, name) if _is_kernel(tensor) else tensor


def codebook(bits: int) -> Method:
    """A k-means codebook for each tensor of two or more dimensions."""
    return lambda tensor, name: quantize_codebook(tensor, bits, name) if _is_kernel(tensor) else tensor


def min_max_bytes() -> Method:
    """The report's method: 8 bits between minimum and maximum, for all floating point tensors but scalars."""
    return lambda tensor, name: quantize(tensor, name) if tensor.is_floating_point() and tensor.ndim else tensor


def cast(dtype: torch.dtype) -> Method:
    """All floating point tensors in a shorter floating point type.

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
    """Applies a method to each tensor of a state dict.

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
    """Writes a state dict to one file, which appears complete or not at all.

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


def write_packed(packed: Mapping[str, Packable], path: str | os.PathLike[str], entropy_coded: bool = True) -> int:
    """Writes tensors that a method has been applied to; see `pack_state_dict`, which does both.

    Raises:
        ValueError: If a file can't hold a tensor's type or name.
        OSError: If the file can't be written.
    """
    entries, stored = encode_tensors(packed, entropy_coded)
    return write(Path(path), {"version": VERSION, "tensors": entries}, stored)


def read_packed(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> dict[str, Packable]:
    """The tensors of a packed file, a state dict's or a model's, as they are packed; see `read_with_sizes`."""
    return read_with_sizes(path, limit)[0]


def read_with_sizes(
    path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT
) -> tuple[dict[str, Packable], dict[str, int]]:
    """The tensors of a packed file, and the bytes that each takes in it.

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


def unpack_state_dict(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> dict[str, Tensor]:
    """Reads a packed file as a plain state dict; see `read_packed` for errors.

    Returns:
        Tensors by name on the CPU: quantized ones as float32, others in the type they had.
    """
    return {name: restore(packed) for name, packed in read_packed(path, limit).items()}


def check_version(version: object) -> None:
    """Checks a header's version.

    Raises:
        PackedFileError: If this program can't read it.
    """
    if version != VERSION or type(version) is not int:
        raise PackedFileError(f"format version is {version!r}; this program reads {VERSION}")


def _is_kernel(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1
