"""A safetensors file with a JSON header and a digest over all of it.

    write(Path("model.safetensors"), {"kind": "mine"}, {"weight": torch.ones(3)})
    header, tensors = read(Path("model.safetensors"))

The file's metadata hold one entry: the hexadecimal SHA-256 of header and tensors, a space, and the header as JSON,
compressed by zlib and written in base 85 (for small models a plain one would take more than the weights). Any
safetensors reader can open the file. A digest shows damage, not who made the file.
"""

import base64
import errno
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from compression.atomic_file import replacing

ENTRY: Final = "compression.packed"
LARGEST_HEADER: Final = 32 << 20

_HEADER_BASE: Final = 64 << 10
_HEADER_RATIO: Final = 40
"""Bytes of header that a byte of the file may stand for, beyond `_HEADER_BASE`.

Measured: 0.02 for ResNet18 at 2 bits; 10 for 20,000 Linear(1, 1), 13 for 1,000 quantized Conv2d(1, 1, 1), and 18 for
10,000 Linear(1, 1) with names of 50 characters.
"""


class PackedFileError(ValueError):
    """A file of weights that is damaged or of another kind; the message says what is wrong with it."""


def write(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """Write a file, which appears complete or not at all; the same content gives the same bytes.

    Args:
        path: File to write or replace, in a folder that exists.
        header: Anything that JSON can hold, by name.
        tensors: Tensors by name, of any layout and device.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If the header is too large, at all or for a file of this size, or safetensors can't hold a tensor.
        OSError: If the file can't be written.
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False)
    stored = as_stored(tensors)
    payload = safetensors.torch.save(stored, {ENTRY: f"{_digest(text, stored)} {_compressed(text)}"})
    if int.from_bytes(payload[:8], "little") > LARGEST_HEADER:
        raise ValueError(f"names and layers take more than {LARGEST_HEADER} bytes of header")
    if len(text) > (largest := _largest_text(len(payload))):
        raise ValueError(f"names and layers take {len(text)} bytes; a file of {len(payload)} may have {largest}")
    with replacing(path) as temporary:
        temporary.write_bytes(payload)
    return len(payload)


def as_stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors of any layout and device to what safetensors can hold: contiguous ones that share no memory."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


def is_packed(path: Path) -> bool:
    """Tell whether a file says that it is a packed one.

    Nothing but its header is read, and it may yet be damaged.

    Raises:
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    if not has_frame(path):
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return ENTRY in (file.metadata() or {})
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, OverflowError):
        return False


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file that `write` wrote; memory is taken in proportion to the file's size only.

    A header that decompresses to more than 64 KiB and 40 times the file's size is refused.

    Raises:
        PackedFileError: If the file is damaged or another program's.
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    metadata, tensors = read_safetensors(path)
    if set(metadata) != {ENTRY}:
        raise PackedFileError(f"metadata are {sorted(metadata)}, not [{ENTRY!r}], so this is another program's file")
    digest, _, compressed = metadata[ENTRY].partition(" ")
    text = _decompressed(compressed, _largest_text(path.stat().st_size))
    if digest != _digest(text, tensors):
        raise PackedFileError("its content does not match its digest: the file is damaged")
    return _parsed(text), tensors


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read metadata and tensors of any safetensors file, packed or not.

    Raises:
        PackedFileError: If the file is no readable one.
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    _check_frame(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            # Cloned: the tensors that come out lie in the mapped file, which another process may cut short.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
            return file.metadata() or {}, tensors
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise PackedFileError(f"no readable safetensors file ({error})") from error


def has_frame(path: Path) -> bool:
    """Tell whether a file begins as safetensors do: with the length of a header that fits in it, and a brace.

    Two bytes would not tell: a header of 640 bytes has a pickle's first two.

    Raises:
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    size, length, brace = _frame(path)
    return length <= size - 8 and brace == b"{"


def _frame(path: Path) -> tuple[int, int, bytes]:
    """Return the file's size, its header's length, and the header's first byte.

    A pipe or device may never end, and can't be read from its beginning twice, as a file is here and by torch.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "No regular file, which is needed", os.fspath(path))
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little"), file.read(1)


def _check_frame(path: Path) -> None:
    size, length, brace = _frame(path)
    if brace != b"{":
        raise PackedFileError("no readable safetensors file: it does not begin with a header")
    if length > size - 8:
        raise PackedFileError(f"no readable safetensors file: {size} bytes, of which a header takes {length}")
    if length > LARGEST_HEADER:
        raise PackedFileError(f"its header takes {length} bytes; at most {LARGEST_HEADER} are read")


def _largest_text(size: int) -> int:
    return min(LARGEST_HEADER, _HEADER_BASE + _HEADER_RATIO * size)


def _compressed(text: str) -> str:
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def _decompressed(compressed: str, largest: int) -> str:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(base64.b85decode(compressed), largest + 1)
        if len(text) > largest or not inflater.eof or inflater.unused_data:
            raise PackedFileError(f"its header does not end, or takes more than {largest} bytes")
        return text.decode()
    except PackedFileError:
        raise
    except (ValueError, zlib.error) as error:
        raise PackedFileError(f"its header can't be decompressed ({error})") from error


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def checked_rows(name: str, rows: object) -> list[dict[str, Any]]:
    """Return an entry of a header if it is a list of objects.

    Raises:
        PackedFileError: If it is anything else.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PackedFileError(f"{name!r} is {str(rows)[:80]!r}; a list of objects is needed")
    return rows


def _parsed(text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PackedFileError(f"its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise PackedFileError(f"its header is a {type(header).__name__}; an object is needed")
    return header
