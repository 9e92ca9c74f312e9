import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pytest_claims.basics.atomic_file import replacing

_FORMAT = "compression-claims image data set 1"
_TENSOR_DTYPES = {
    "training.images": "U8",
    "training.labels": "I64",
    "validation.images": "U8",
    "validation.labels": "I64",
}


class DatasetError(ValueError):
    """A data set, or a file or folder that should hold one, cannot be used."""


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split, with their labels.

    Attributes:
        images: uint8, shape (n, height, width, channels), n >= 1; 3 channels are RGB, 1 is grey.
        labels: int64, shape (n,), each 0 or more.

    Raises:
        DatasetError: An array has another type or shape, or holds nothing.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        _check_array("images", self.images, np.dtype(np.uint8), ndim=4)
        _check_array("labels", self.labels, np.dtype(np.int64), ndim=1)
        if self.images.shape[3] not in (1, 3):
            raise DatasetError(
                f"images have {self.images.shape[3]} channels; expected 1 or 3, shape (n, h, w, channels)"
            )
        if len(self.images) != len(self.labels):
            raise DatasetError(f"{len(self.images)} images but {len(self.labels)} labels; expected one each")
        if self.labels.min() < 0:
            raise DatasetError(f"label {self.labels.min()} is negative; expected class indices from 0")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set of images of one size, kept in memory.

    Attributes:
        classes: Name of each class; a label is an index into it.
        training: The images to learn from.
        validation: The images to measure accuracy on.

    Raises:
        DatasetError: A class name is unusable, a label has no class, or the two splits differ in image size.
    """

    classes: tuple[str, ...]
    training: Split
    validation: Split

    def __post_init__(self) -> None:
        check_class_names(self.classes)
        for name, split in (("training", self.training), ("validation", self.validation)):
            largest = int(split.labels.max())
            if largest >= len(self.classes):
                raise DatasetError(f"{name} label {largest} is out of range; expected 0 to {len(self.classes) - 1}")
        sizes = self.training.images.shape[1:], self.validation.images.shape[1:]
        if sizes[0] != sizes[1]:
            raise DatasetError(
                f"images are {sizes[0]} (height, width, channels) in training, {sizes[1]} in validation; expected one"
            )


def check_class_names(classes: Sequence[str]) -> None:
    """Check that class names can be told apart, printed and stored.

    Args:
        classes: The names, in the order of their labels.

    Raises:
        DatasetError: There is no name, or one is blank, repeated, or holds a control character or a byte that
            is not text.
    """
    if not classes:
        raise DatasetError("there are no classes; expected at least one class name")
    seen = set()
    for name in classes:
        if not name.strip():
            raise DatasetError(f"class name {name!r} is blank")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise DatasetError(f"class name {name!r} holds a control character or a byte that is not UTF-8")
        if name in seen:
            raise DatasetError(f"class name {name!r} occurs twice; expected distinct names")
        seen.add(name)


def content_hash(dataset: Dataset) -> str:
    """Hash what a data set holds: class names, shapes, images and labels.

    Args:
        dataset: The data set.

    Returns:
        SHA-256 as 64 hexadecimal digits, the same whatever the byte order or memory layout of the arrays.
    """
    splits = (dataset.training, dataset.validation)
    header = json.dumps([_FORMAT, dataset.classes, [split.images.shape for split in splits]]).encode("ascii")
    digest = hashlib.sha256(len(header).to_bytes(8, "little") + header)
    for split in splits:
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
    return digest.hexdigest()


def save_dataset(dataset: Dataset, path: Path, identity: str | None = None) -> None:
    """Write a data set to one safetensors file, with its identity, content hash and class names in the header.

    Args:
        dataset: The data set.
        path: The file, replaced in one step: a reader sees the old file or the new one, never a part.
        identity: What the data set is known by, such as the hash of a formula; its content hash without one.

    Raises:
        OSError: The file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {
        "training.images": np.ascontiguousarray(dataset.training.images),
        "training.labels": np.ascontiguousarray(dataset.training.labels),
        "validation.images": np.ascontiguousarray(dataset.validation.images),
        "validation.labels": np.ascontiguousarray(dataset.validation.labels),
    }
    found = content_hash(dataset)
    metadata = {
        "format": _FORMAT,
        "identity": identity or found,
        "content_hash": found,
        "classes": json.dumps(dataset.classes),
    }
    with replacing(path) as temporary:
        # safetensors may make its file readable by its owner only, which would spoil a shared cache.
        mode = temporary.stat().st_mode
        save_file(arrays, temporary, metadata)
        temporary.chmod(mode)


def load_dataset(path: Path, identity: str | None = None) -> Dataset:
    """Read a data set, checking every byte of it against the content hash in its header.

    Args:
        path: A file written by `save_dataset`.
        identity: What the data set should be known by; any without one.

    Returns:
        The data set; its arrays are writable and belong to the caller.

    Raises:
        DatasetError: The file is missing, truncated, altered, not of this format, or holds another data set.
    """
    with _open_checked(path) as file:
        metadata = _metadata(file)
        if identity not in (None, metadata["identity"]):
            raise DatasetError(f"holds the data set {metadata['identity']}, expected {identity}")
        arrays = {name: file.get_tensor(name) for name in _TENSOR_DTYPES}
        dataset = Dataset(
            classes=_parse_classes(metadata["classes"]),
            training=Split(arrays["training.images"], arrays["training.labels"]),
            validation=Split(arrays["validation.images"], arrays["validation.labels"]),
        )
        found = content_hash(dataset)
        if found != metadata["content_hash"]:
            raise DatasetError(f"content hash is {found}, expected {metadata['content_hash']}")
    return dataset


def stored_identity(path: Path) -> str:
    """Read what a data set is known by from its file's header, without reading or checking the images.

    Args:
        path: A file written by `save_dataset`.

    Returns:
        The identity that was given when the file was written, or else the content hash.

    Raises:
        DatasetError: The file is missing, truncated, or not of this format.
    """
    with _open_checked(path) as file:
        return _metadata(file)["identity"]


def _check_array(name: str, array: object, dtype: np.dtype[np.generic], *, ndim: int) -> None:
    if not isinstance(array, np.ndarray):
        raise DatasetError(f"{name} are a {type(array).__name__}; expected a NumPy array")
    if array.dtype != dtype:
        raise DatasetError(f"{name} have type {array.dtype}; expected {dtype}")
    if array.ndim != ndim:
        raise DatasetError(f"{name} have shape {array.shape}; expected {ndim} dimensions")
    if array.size == 0:
        raise DatasetError(f"{name} have shape {array.shape}; expected at least one element")


@contextmanager
def _open_checked(path: Path) -> Iterator[Any]:
    """Open a data set file; whatever is found wrong inside the block names the file."""
    try:
        if not path.is_file():
            raise DatasetError("no such file")
        with safe_open(path, "numpy") as file:
            yield file
    except (DatasetError, SafetensorError, OSError) as error:
        raise DatasetError(f"{path}: not a usable data set file: {error}") from error


def _metadata(file: Any) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != _FORMAT:
        raise DatasetError(f"its format is {metadata.get('format')!r}, expected {_FORMAT!r}")
    for name in ("identity", "content_hash"):
        if not re.fullmatch("[0-9a-f]{64}", metadata.get(name, "")):
            raise DatasetError(f"{name.replace('_', ' ')} {metadata.get(name)!r}, expected 64 hexadecimal digits")
    if "classes" not in metadata:
        raise DatasetError("no class names in its header")
    dtypes = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no iterator)
    if dtypes != _TENSOR_DTYPES:
        raise DatasetError(f"it holds {dtypes}, expected {_TENSOR_DTYPES}")
    return metadata


def _parse_classes(text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"class names are not JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"class names are {text[:80]!r}, expected a list of strings")
    return tuple(names)
