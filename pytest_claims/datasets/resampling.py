"""Another division of the same images: each seed of a repetition learns from, and is measured on, other ones.

Training and validation images are pooled class by class, put into a random order, and divided again, so that both
splits keep their number of images of each class. Divisions share images, as those of a repeated cross-validation do:
an interval over them covers which of these images were learned from, and not which images there might have been.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_claims.datasets.dataset import Dataset, Split

Rows = NDArray[np.int64]


def resampled(dataset: Dataset, seed: int) -> Dataset:
    """Divide a data set's images anew, class by class.

    Args:
        dataset: Its two splits are pooled.
        seed: Of the random order; the same one gives the same division on every machine.

    Returns:
        A data set of the same counts of each class in each split; images are in the order of the pool.
    """
    splits = (dataset.training, dataset.validation)
    images = np.concatenate([split.images for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    first = len(dataset.training.labels)
    rows = [_divided(np.flatnonzero(labels == label), first, seed, label) for label in range(len(dataset.classes))]
    return Dataset(dataset.classes, *(_split(images, labels, [parts[side] for parts in rows]) for side in range(2)))


def _divided(pool: Rows, first: int, seed: int, label: int) -> tuple[Rows, Rows]:
    """Divide the rows of a class; those below `first` were the training split's."""
    # Only PCG64's raw output is promised never to change; two numbers are hardly ever the same.
    keys = np.random.PCG64(np.random.SeedSequence((seed, label))).random_raw(len(pool))
    shuffled = pool[np.argsort(keys, kind="stable")]
    count = int((pool < first).sum())
    return shuffled[:count], shuffled[count:]


def _split(images: NDArray[np.uint8], labels: Rows, rows: Sequence[Rows]) -> Split:
    chosen = np.sort(np.concatenate(rows))
    return Split(images[chosen], labels[chosen])
