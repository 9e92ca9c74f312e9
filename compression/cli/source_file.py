"""State dicts as other programs write them.

state = read_state(Path("model.pth"))       # or .bin, .safetensors, or a packed file
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from compression.packing.container import has_frame, is_packed
from compression.packing.state_file import load_state_dict, read_plain
from compression.packing.tensors import DEFAULT_LIMIT

_WRAPPERS: Final = ("state_dict", "model", "model_state_dict")
_PICKLES: Final = tuple(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5))


def read_state(path: Path, limit: int = DEFAULT_LIMIT) -> dict[str, Tensor]:
    """Read a state dict; no code in the file is run.

    Args:
        path: A packed file, safetensors, or what `torch.save` wrote: a state dict, or one under `state_dict`, `model`
            or `model_state_dict`, or under several of them, one in another.
        limit: Most bytes that its tensors may take; those of a packed file count as float32.

    Returns:
        Dense tensors by name on the CPU.

    Raises:
        ValueError: If the file is neither, is damaged, holds no tensors by name, or more than the limit.
        OSError: If there is no such file, it is no regular one, or it can't be read.
    """
    if is_packed(path):
        return load_state_dict(path, limit)
    if has_frame(path):
        return read_plain(path, limit)
    if not is_torch_file(path):
        raise ValueError(f"{path}: neither safetensors nor a file of torch.save")
    state = _state_of(path, _read_torch(path, limit))
    _check_limit(path, sum(tensor.numel() * tensor.element_size() for tensor in state.values()), limit)
    return {name: tensor.resolve_conj().resolve_neg() for name, tensor in state.items()}


def is_torch_file(path: Path) -> bool:
    """Tell whether a file begins or ends as those of `torch.save`; it may yet be damaged, or another program's."""
    if has_frame(path):
        return False
    with path.open("rb") as file:
        return file.read(2) in _PICKLES or _is_zip(path)


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        # It has the end of one, which says what no zip file can.
        return True


def _read_torch(path: Path, limit: int) -> Any:
    """Return what the file holds, whatever it is.

    It is opened here: of a path, torch would take the suffix for the format.
    """
    try:
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                inflated = sum(member.file_size for member in archive.infolist())
            _check_limit(path, inflated, limit)
        with warnings.catch_warnings(), path.open("rb") as file:
            # torch warns of pickles that it might refuse; if it does, that is the error.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except (_LimitError, OSError):
        raise
    except Exception as error:
        # A damaged pickle may raise anything.
        raise ValueError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Tell what is wrong with a file that torch refuses; its own text recommends to run the code in the file."""
    found = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if found:
        return f"holds more than tensors ({found[1]}), and is not read; a state dict alone is"
    return f"no readable file of torch.save ({type(error).__name__}): it is damaged, or holds more than tensors"


class _LimitError(ValueError):
    """The file's tensors take more than the reader allows."""


def _check_limit(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise _LimitError(f"{path}: its tensors take {size} bytes; the limit is {limit}")


def _state_of(path: Path, content: Any) -> dict[str, Tensor]:
    content = _unwrapped(content)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}; a state dict is needed")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path}: entry {name!r} is a {type(tensor).__name__}; tensors by name are needed")
        if tensor.is_nested or tensor.is_meta or tensor.layout != torch.strided:
            raise ValueError(f"{path}: tensor {name!r} is {_storage_kind(tensor)}; a dense one with values is needed")
    return dict(content)


def _unwrapped(content: Any) -> Any:
    """Return what lies in wrappers, in whatever order; the search ends in one that lies in itself."""
    seen = set[int]()
    while isinstance(content, Mapping) and id(content) not in seen:
        seen.add(id(content))
        content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    return content


def _storage_kind(tensor: Tensor) -> str:
    if tensor.is_nested:
        return "nested"
    return "on the meta device" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
