"""Images in IDX files, as MNIST and Fashion-MNIST are published: one channel, one file for images and one for labels.

    train-images-idx3-ubyte  train-labels-idx1-ubyte  t10k-images-idx3-ubyte  t10k-labels-idx1-ubyte

Each may be compressed, with `.gz` at the end of its name.
"""

import gzip
import os
import stat
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_claims.datasets.dataset import Dataset, DatasetError, Split

MOST_BYTES = 2**30
"""Of an unpacked file; MNIST's largest has 47 million."""

_SPLITS = ("train", "t10k")
_UBYTE = 0x08


@dataclass(frozen=True)
class IdxSpec:
    """A folder of IDX files.

    Attributes:
        root: The folder.
        classes: Name of each label.
        training_per_class: The first so many images of each class are learned from; None for all.
        validation_per_class: The first so many of the `t10k` files are measured on; None for all.
    """

    root: Path
    classes: tuple[str, ...]
    training_per_class: int | None = None
    validation_per_class: int | None = None


def read_idx_dataset(spec: IdxSpec) -> Dataset:
    """Read both splits.

    Raises:
        DatasetError: A file is missing or damaged, or a class has fewer images than are asked for.
    """
    limits = (spec.training_per_class, spec.validation_per_class)
    return Dataset(spec.classes, *(_read_split(spec, *each) for each in zip(_SPLITS, limits, strict=True)))


def _read_split(spec: IdxSpec, name: str, per_class: int | None) -> Split:
    images_path, images = _read_file(spec.root, f"{name}-images-idx3-ubyte", dimensions=3)
    labels_path, labels = _read_file(spec.root, f"{name}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise DatasetError(f"{labels_path}: has {len(labels)} labels, should have {len(images)} as {images_path.name}")
    if labels.size and labels.max() >= len(spec.classes):
        raise DatasetError(f"{labels_path}: has label {labels.max()}, should be below {len(spec.classes)}")
    rows = np.arange(len(labels)) if per_class is None else _first_of_each(labels, per_class, spec, labels_path)
    return Split(images[rows, :, :, None], labels[rows].astype(np.int64))


def _first_of_each(labels: NDArray[np.uint8], count: int, spec: IdxSpec, path: Path) -> NDArray[np.int64]:
    rows = [np.flatnonzero(labels == label)[:count] for label in range(len(spec.classes))]
    for name, found in zip(spec.classes, rows, strict=True):
        if len(found) < count:
            raise DatasetError(f"{path}: has {len(found)} images of {name}, should have the {count} that are asked for")
    return np.sort(np.concatenate(rows))


def _read_file(root: Path, name: str, dimensions: int) -> tuple[Path, NDArray[np.uint8]]:
    path = next((path for path in (root / name, root / f"{name}.gz") if path.exists()), None)
    if path is None:
        raise DatasetError(f"{root / name}: no such file, nor with .gz at its end")
    content = _unpacked(path)
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, _UBYTE, dimensions)):
        raise DatasetError(f"{path}: is no IDX file of bytes in {dimensions} dimensions")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    if prod(shape) != len(content) - header:
        raise DatasetError(f"{path}: has {len(content) - header:,} bytes of data, should have {prod(shape):,}, {shape}")
    return path, np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _unpacked(path: Path) -> bytes:
    try:
        # Not blocking: a pipe that nobody writes to would keep a plain open for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DatasetError(f"{path}: is no regular file")
            stream = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            content = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    if len(content) > MOST_BYTES:
        raise DatasetError(f"{path}: has more than {MOST_BYTES:,} bytes")
    return content
