"""Data sets: made or decoded once into a checked file, and known by the hash of their content."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError

from pytest_claims.datasets.dataset import (
    Dataset,
    DatasetError,
    content_hash,
    load_dataset,
    save_dataset,
)
from pytest_claims.datasets.fractal import FractalSpec, make_fractal_dataset
from pytest_claims.datasets.idx import IdxSpec, read_idx_dataset
from pytest_claims.datasets.image_folder import prepare_image_folder
from pytest_claims.datasets.resampling import resampled
from pytest_claims.datasets.size import DataSize, stored_size
from pytest_claims.keys.code_fingerprint import code_fingerprint

Progress = Callable[[int, int], None]
"""Told how many images are done, of how many."""


@dataclass(frozen=True)
class FolderSpec:
    """A folder of images; see `pytest_claims.datasets.image_folder`.

    Attributes:
        root: The folder.
        resolution: Height and width in pixels.
        skip_bad_images: Leave out images that cannot be read, instead of stopping.
        expected: Images of the training and the validation split, where the data set is a known one.
    """

    root: Path
    resolution: int
    skip_bad_images: bool = False
    expected: tuple[int, int] | None = None


@dataclass(frozen=True)
class ResampledSpec:
    """Images that each seed divides anew into training and validation; see `pytest_claims.datasets.resampling`.

    Attributes:
        images: What the images are made from.
        seed: Of the division; None until it is asked for.
    """

    images: IdxSpec | FolderSpec
    seed: int | None = None


DataSpec = FractalSpec | IdxSpec | FolderSpec | ResampledSpec
"""What a data set is made from."""

_RESAMPLING = "pytest_claims.datasets.resampling"


@dataclass(frozen=True)
class PreparedData:
    """A data set that is ready to be loaded.

    Attributes:
        path: Its file.
        file_identity: What the file's images are known by: drawn ones by their formula, others by their content.
        notes: What the user should know, such as images that were left out.
        resampling: Seed by which the file's images are divided anew; None where they stay as they are.
    """

    path: Path
    file_identity: str
    notes: tuple[str, ...] = ()
    resampling: int | None = None

    @property
    def identity(self) -> str:
        """What decides images, labels and names: the file's identity and, behind a colon, how they are divided."""
        if self.resampling is None:
            return self.file_identity
        return f"{self.file_identity}:{_hash(self.resampling, code_fingerprint([_RESAMPLING]))}"

    def load(self) -> Dataset:
        """Read the data set.

        Raises:
            DatasetError: Its file cannot be read, or holds other data.
        """
        dataset = load_dataset(self.path, self.file_identity)
        return dataset if self.resampling is None else resampled(dataset, self.resampling)


def drawing_identity(spec: FractalSpec) -> str:
    """Return what drawn images are known by: their formula and its code, which decide every byte."""
    return _hash(spec, code_fingerprint(["pytest_claims.datasets.fractal"]))


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def of_seed(spec: DataSpec, seed: int) -> DataSpec:
    """Return what a seed's data are made from: its own drawing or division, or what all seeds share."""
    match spec:
        case FractalSpec():
            return replace(spec, drawing=seed)
        case ResampledSpec():
            return replace(spec, seed=seed)
    return spec


def prepare(spec: DataSpec, cache: Path, progress: Progress | None = None) -> PreparedData:
    """Makes or decodes a data set, unless the cache has it.

    Raises:
        DatasetError: The images cannot be used, or the cache cannot be written.
    """
    try:
        if isinstance(spec, FractalSpec):
            return _prepare_fractal(spec, cache)
        if isinstance(spec, IdxSpec):
            return _prepare_idx(spec, cache)
        if isinstance(spec, ResampledSpec):
            return replace(prepare(spec.images, cache, progress), resampling=spec.seed)
        return _prepare_folder(spec, cache, progress)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"{cache}: a data set cannot be written there ({reason})") from error


def _prepare_folder(spec: FolderSpec, cache: Path, progress: Progress | None) -> PreparedData:
    report = prepare_image_folder(
        spec.root, spec.resolution, cache, skip_bad_images=spec.skip_bad_images, progress=progress
    )
    notes = tuple(f"left out {skipped.name}: {skipped.reason}" for skipped in report.skipped)
    if spec.expected is not None:
        _check_count(spec.root, stored_size(report.dataset_path), len(notes), spec.expected)
    return PreparedData(report.dataset_path, report.content_hash, notes)


def _check_count(root: Path, size: DataSize, left_out: int, expected: tuple[int, int]) -> None:
    """Refuse a folder that is another data set than the one that numbers were published for.

    Raises:
        DatasetError: There are more or fewer images, those counted that were left out.
    """
    images = size.training + size.validation + left_out
    if images != sum(expected):
        raise DatasetError(
            f"{root}: has {images:,} images, should have {expected[0]:,} in training/ and {expected[1]:,} in "
            "validation/"
        )


def _prepare_idx(spec: IdxSpec, cache: Path) -> PreparedData:
    dataset = read_idx_dataset(spec)
    found = content_hash(dataset)
    path = cache / f"idx-{found[:16]}.safetensors"
    try:
        load_dataset(path, found)
    except DatasetError:
        cache.mkdir(parents=True, exist_ok=True)
        save_dataset(dataset, path)
    return PreparedData(path, found)


def _prepare_fractal(spec: FractalSpec, cache: Path) -> PreparedData:
    identity = drawing_identity(spec)
    path = cache / f"fractal-{identity[:16]}.safetensors"
    try:
        load_dataset(path, identity)
    except DatasetError:
        cache.mkdir(parents=True, exist_ok=True)
        save_dataset(make_fractal_dataset(spec), path, identity)
    return PreparedData(path, identity)
