"""A state dict in a file: plain safetensors as long as its tensors are plain, else a packed file.

    save_state_dict(model.state_dict(), "model.safetensors")                # float32; or all at 16 or 8 bits
    pack_state_dict(model.state_dict(), "small.safetensors", affine(AffineSpec(bits=4)))
    model.load_state_dict(load_state_dict("small.safetensors"))             # reads either, as float tensors

A method takes a tensor and its name, and returns what the file shall hold. `affine` and `codebook` quantize floating
point tensors of two or more dimensions (kernels and matrices: nearly all bytes), and leave biases and norms as they
are.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import safetensors.torch
import torch
from torch import Tensor

from compression.atomic_file import replacing
from compression.packing.container import PackedFileError, as_stored, is_packed, read, read_safetensors, write
from compression.packing.tensors import (
    DEFAULT_LIMIT,
    CastTensor,
    Packable,
    check_tensors,
    decode_tensors,
    encode_tensors,
    restore,
    stored_size,
)
from compression.quantization.affine import AffineSpec, finite_float32, quantize_affine
from compression.quantization.codebook import quantize_codebook
from compression.quantization.state_dict import quantize, to_float16

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
    return lambda tensor, name: quantize(tensor, name) if _is_float_array(tensor) else tensor


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
    """Write a state dict with all numbers at the same number of bits: the report's way.

    At 32 and 16 bits the file is plain safetensors, which any program reads; at 8 bits it is a packed file, without
    entropy coding. It appears complete or not at all, and the same state gives the same bytes.

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
    if bits == 8:
        packed = pack_tensors({name: _as_float32(tensor) for name, tensor in state.items()}, min_max_bytes())
        return write_packed(packed, path, entropy_coded=False)
    check_tensors(state)
    half = {name: to_float16(tensor, name) for name, tensor in state.items() if bits == 16 and _is_float_array(tensor)}
    plain = {name: half.get(name, _as_float32(tensor)) for name, tensor in state.items()}
    payload = safetensors.torch.save(as_stored(plain))
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(payload)
    return len(payload)


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
    """Read a state dict from a packed file, a state dict's or a model's, or from plain safetensors.

    Args:
        path: The file.
        limit: Most bytes that the tensors may take: those of a packed file as float32, of a plain one as they are.

    Returns:
        Tensors by name on the CPU. Floating point ones of a plain file, and codes between minimum and maximum, come
        back as float32; all others in the type that they had.

    Raises:
        PackedFileError: If the file is damaged, foreign, inconsistent in itself, or takes more than `limit` bytes.
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    if is_packed(Path(path)):
        return {name: restore(packed) for name, packed in read_packed(path, limit).items()}
    return {name: _as_float32(tensor) for name, tensor in read_plain(path, limit).items()}


def read_plain(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file as they are.

    Raises:
        PackedFileError: If the file is no readable one, or its tensors take more than `limit` bytes.
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    # Tensors lie one after another without gaps, and so take no more than the file does.
    size = Path(path).stat().st_size
    if size > limit:
        raise PackedFileError(f"{os.fspath(path)}: its tensors take {size} bytes; the limit is {limit}")
    try:
        return read_safetensors(Path(path))[1]
    except PackedFileError as error:
        raise PackedFileError(f"{os.fspath(path)}: {error}") from error


def check_version(version: object) -> None:
    """Check that this program can read a header's version.

    Raises:
        PackedFileError: If this program can't read it.
    """
    if version != VERSION or type(version) is not int:
        raise PackedFileError(f"format version is {version!r}; this program reads {VERSION}")


def _is_kernel(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1


def _is_float_array(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 0


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor
