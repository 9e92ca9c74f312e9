"""A folder of labelled images, decoded once into a checked data set file."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pytest_claims.basics.atomic_file import replacing
from pytest_claims.datasets.dataset import (
    Dataset,
    DatasetError,
    Split,
    load_dataset,
    save_dataset,
    stored_identity,
)
from pytest_claims.datasets.image_decoding import DECODING_VERSION, decode_images
from pytest_claims.datasets.image_layout import SPLITS, ImageFolder, SkippedFile, check_every_class, find_images, refuse

MAX_RESOLUTION = 2048


@dataclass(frozen=True)
class FolderReport:
    """What became of a folder of images.

    Attributes:
        dataset_path: The decoded data set, to be read with `load_dataset`.
        content_hash: Its content hash.
        classes: Name of each class; a label is an index into it.
        skipped: The images left out, in the order of the data set.
    """

    dataset_path: Path
    content_hash: str
    classes: tuple[str, ...]
    skipped: tuple[SkippedFile, ...]


def prepare_image_folder(
    root: Path,
    resolution: int,
    cache_dir: Path,
    *,
    skip_bad_images: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Decode a folder of labelled images once, into a data set file of small square images.

    The folder has one of two layouts: flat, `training/<class>_<n>.jpg` and `validation/<class>_<n>.jpg`
    with an optional `classes.txt` (one name a line, in the order of the labels), or one folder a class,
    `training/<class name>/*.jpg` and `validation/<class name>/*.jpg`. Files that are hidden or have no
    image suffix, and `evaluation/`, are not read.

    Each image is turned as its EXIF orientation says, laid on white where transparent, converted to RGB,
    cropped to its central square and resized by an antialiasing Lanczos filter. While no file's name, size,
    time of change or mode changes, a further call decodes nothing; a damaged cache is decoded anew.

    Args:
        root: The folder.
        resolution: Height and width of the prepared images, in pixels, 1 to 2048.
        cache_dir: Where the data set file is kept; made if missing.
        skip_bad_images: Leave out and report the images that cannot be decoded, instead of refusing all.
        progress: Called with (images done, images in all) after each image that is decoded.

    Returns:
        Where the data set is, and what was left out.

    Raises:
        DatasetError: The folder, one of its files or the resolution cannot be used; all files of that kind
            are named in the one error.
        OSError: The data set file cannot be written.
    """
    _check_resolution(resolution)
    folder = find_images(root)
    key = _cache_key(folder, resolution)
    path = cache_dir / f"images-{resolution}px-{key[:32]}.safetensors"
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        report = _cached_report(path, key)
        if report is None or (report.skipped and not skip_bad_images):
            files = folder.training + folder.validation
            images, reasons = decode_images(files, resolution, progress)
            skipped = tuple(SkippedFile(files[row].name, reason) for row, reason in reasons.items())
            if not skip_bad_images:
                refuse(folder.root, skipped)
            report = _save(_assemble(folder, images, set(reasons)), skipped, path, key)
    return report


def _check_resolution(resolution: int) -> None:
    if type(resolution) is not int or not 1 <= resolution <= MAX_RESOLUTION:
        raise DatasetError(
            f"resolution is {resolution!r}; expected a whole number of pixels from 1 to {MAX_RESOLUTION}"
        )


def _cache_key(folder: ImageFolder, resolution: int) -> str:
    # The mode is part of the key, since a file that could not be read can be after a chmod.
    files = [
        (file.name, file.label, file.status.st_size, file.status.st_mtime_ns, file.status.st_mode)
        for file in folder.training + folder.validation
    ]
    text = json.dumps([DECODING_VERSION, resolution, str(folder.root), folder.classes, files])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _cached_report(path: Path, key: str) -> FolderReport | None:
    try:
        record = json.loads(path.with_suffix(".json").read_text("utf-8"))
        dataset = load_dataset(path)
        skipped = tuple(SkippedFile(**entry) for entry in record["skipped"])
        report = FolderReport(path, stored_identity(path), dataset.classes, skipped)
        fresh = record["key"] == key and record["content_hash"] == report.content_hash
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return report if fresh else None


def _assemble(folder: ImageFolder, images: NDArray[np.uint8], unusable: set[int]) -> Dataset:
    """Put the rows that could be decoded together, training before validation."""
    labels = np.array([file.label for file in folder.training + folder.validation], dtype=np.int64)
    border = len(folder.training)
    if unusable:
        usable = np.array([row not in unusable for row in range(len(labels))])
        images, labels, border = images[usable], labels[usable], int(usable[:border].sum())
    for split, usable_labels in zip(SPLITS, (labels[:border], labels[border:]), strict=True):
        check_every_class(folder.root / split, folder.classes, set(usable_labels.tolist()))
    training, validation = Split(images[:border], labels[:border]), Split(images[border:], labels[border:])
    return Dataset(folder.classes, training, validation)


def _save(dataset: Dataset, skipped: tuple[SkippedFile, ...], path: Path, key: str) -> FolderReport:
    save_dataset(dataset, path)
    report = FolderReport(path, stored_identity(path), dataset.classes, skipped)
    record = {
        "key": key,
        "content_hash": report.content_hash,
        "skipped": [asdict(file) for file in skipped],
    }
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record), "utf-8")
    return report
