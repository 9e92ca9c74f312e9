"""State dicts as other programs write them.

state = read_state(Path("model.pth"))       # or .bin, .safetensors, or a packed file
"""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from compression.packing.container import ENTRY
from compression.packing.state_file import unpack_state_dict
from compression.packing.tensors import DEFAULT_LIMIT

_WRAPPERS: Final = ("state_dict", "model", "model_state_dict")


def read_state(path: Path, limit: int = DEFAULT_LIMIT) -> dict[str, Tensor]:
    """Reads a state dict; no code in the file is run.

    Args:
        path: A packed file, safetensors, or what `torch.save` wrote: a state dict, or one under `state_dict`, `model`
            or `model_state_dict`.
        limit: Most bytes that a packed file may unpack to.

    Raises:
        ValueError: If the file is neither, is damaged, or holds no tensors by name.
        OSError: If there is no such file, or it can't be read.
    """
    if _is_torch_file(path):
        return _read_torch(path)
    if is_packed(path):
        return unpack_state_dict(path, limit)
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: neither safetensors nor a file of torch.save ({error})") from error


def is_packed(path: Path) -> bool:
    """Whether a file says that it is a packed one; it may yet be damaged."""
    with path.open("rb") as file:
        file.read(1)
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            return ENTRY in (opened.metadata() or {})
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, OverflowError):
        return False


def _is_torch_file(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(2)
    return zipfile.is_zipfile(path) or (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # torch warns of pickles that it might refuse; if it does, that is the error.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: holds more than tensors, and is not read ({str(error).splitlines()[0]})") from error
    except (RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no readable file of torch.save ({error})") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}; a state dict is needed")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path}: entry {name!r} is a {type(tensor).__name__}; tensors by name are needed")
    return dict(content)
