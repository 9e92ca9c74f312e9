"""How many images a data set has, and how large they are, without reading the images."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pytest_claims.datasets.dataset import DatasetError


@dataclass(frozen=True)
class DataSize:
    """Counts of images in the two splits, and the pixels of one."""

    training: int
    validation: int
    pixels: int


def stored_size(path: Path) -> DataSize:
    """Reads the size of a data set.

    Args:
        path: A file written by `pytest_claims.datasets.dataset.save_dataset`.

    Raises:
        DatasetError: The file is missing or truncated, or holds something else.
    """
    try:
        with safe_open(path, "numpy") as file:
            training, height, width, _ = file.get_slice("training.images").get_shape()
            validation, *_ = file.get_slice("validation.images").get_shape()
    except (SafetensorError, OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a usable data set file: {error}") from error
    size = DataSize(training, validation, height * width)
    if not all(vars(size).values()):
        raise DatasetError(f"{path}: has {size}, expected at least one of each")
    return size
