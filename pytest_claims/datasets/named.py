"""Data sets by name."""

from pathlib import Path

from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.datasets.fractal import FractalSpec
from pytest_claims.datasets.idx import IdxSpec
from pytest_claims.datasets.preparation import DataSpec, FolderSpec

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts it."""

_DRAWN = (60, 180)
"""Drawn images of each class, to learn from and to measure on, unless a profile says otherwise."""


def named_dataset(
    name: str,
    root: Path | None,
    *,
    resolution: int,
    training_per_class: int | None,
    validation_per_class: int | None,
    skip_bad_images: bool,
) -> DataSpec:
    """Return what a data set is made from.

    Args:
        name: One of `DATASETS`.
        root: The folder that it is in, if it is elsewhere than usual.
        resolution: Height and width in pixels, of data that have none of their own.
        training_per_class: The first so many images of each class are learned from; None for all.
        validation_per_class: The first so many are measured on; None for all.
        skip_bad_images: Leave out images that cannot be read, instead of stopping.

    Raises:
        DatasetError: A folder is needed and none is given.
    """
    limits = (training_per_class, validation_per_class)
    if name == "drawn":
        training, validation = (given or usual for given, usual in zip(limits, _DRAWN, strict=True))
        return FractalSpec(
            first_class=0,
            classes=10,
            training_per_class=training,
            validation_per_class=validation,
            resolution=resolution,
            jitter=0.5,
            noise=0.1,
        )
    if name == "fashion-mnist":
        return IdxSpec(root or FASHION_MNIST, _FASHION_CLASSES, *limits)
    if root is None:
        raise DatasetError(f"data {name!r}: needs --data-root, the folder that holds training/ and validation/")
    return FolderSpec(root, resolution, skip_bad_images)


_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

DATASETS = ("drawn", "fashion-mnist", "image-folder")
"""`drawn`: ten classes of drawn figures; `image-folder`: see `datasets.image_folder`."""
