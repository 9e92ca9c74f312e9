import hashlib
import json
import os
import re
import stat
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.datasets.dataset import (
    Dataset,
    DatasetError,
    Split,
    check_class_names,
    load_dataset,
    replacing,
    save_dataset,
    stored_hash,
)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_PIXELS = 50_000_000
MAX_RESOLUTION = 2048

_CACHE_VERSION = 1  # to be raised when the same files would be decoded to other pixels
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_SPLITS = ("training", "validation")
_LISTED = 10


@dataclass(frozen=True)
class SkippedFile:
    """An image left out of the data set.

    Attributes:
        name: Path inside the image folder, with forward slashes.
        reason: Why it could not be used.
    """

    name: str
    reason: str


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


@dataclass(frozen=True)
class _ImageFile:
    name: str
    path: Path
    label: int
    status: os.stat_result


@dataclass(frozen=True)
class _ImageFolder:
    root: Path
    classes: tuple[str, ...]
    training: tuple[_ImageFile, ...]
    validation: tuple[_ImageFile, ...]


@dataclass(frozen=True)
class _Listing:
    images: tuple[Path, ...]
    folders: tuple[Path, ...]


def prepare_image_folder(
    root: Path,
    resolution: int,
    cache_dir: Path,
    *,
    skip_bad_images: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Decode a folder of labelled images once, into a data set file of small square images.

    The folder has one of two layouts: Food-11's, `training/<class>_<n>.jpg` and `validation/<class>_<n>.jpg`
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
    folder = _scan(root)
    key = _cache_key(folder, resolution)
    path = cache_dir / f"images-{resolution}px-{key[:32]}.safetensors"
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        report = _cached_report(path, key)
        if report is None or (report.skipped and not skip_bad_images):
            files = folder.training + folder.validation
            images, reasons = _decode_files(files, resolution, progress)
            skipped = tuple(SkippedFile(files[row].name, reason) for row, reason in reasons.items())
            if not skip_bad_images:
                _refuse(folder.root, skipped)
            report = _save(_assemble(folder, images, set(reasons)), skipped, path, key)
    return report


def _check_resolution(resolution: int) -> None:
    if type(resolution) is not int or not 1 <= resolution <= MAX_RESOLUTION:
        raise DatasetError(
            f"resolution is {resolution!r}; expected a whole number of pixels from 1 to {MAX_RESOLUTION}"
        )


def _refuse(root: Path, problems: Sequence[SkippedFile]) -> None:
    if not problems:
        return
    lines = [f"{root}: {len(problems)} of its files or folders cannot be used:"]
    lines += [f"  {problem.name!r}: {problem.reason}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  and {len(problems) - _LISTED} more")
    raise DatasetError("\n".join(lines))


def _scan(root: Path) -> _ImageFolder:
    """Find the images and their labels, without opening an image."""
    try:
        root = Path(os.path.realpath(root, strict=True))
    except OSError as error:
        raise DatasetError(f"{root}: {error.strerror}; expected a folder of images") from error
    training, validation = (_list_split(root, split) for split in _SPLITS)
    if bool(training.images) != bool(validation.images):
        raise DatasetError(
            f"{root}: one of training/ and validation/ holds images, the other class folders; "
            "expected the same layout in both"
        )
    if training.images:
        return _scan_flat(root, training.images, validation.images)
    return _scan_class_folders(root, training.folders, validation.folders)


def _list_split(root: Path, split: str) -> _Listing:
    folder = root / split
    listing = _list_folder(root, folder)
    if listing.images and listing.folders:
        raise DatasetError(
            f"{folder}: holds images (such as {listing.images[0].name!r}) beside folders "
            f"(such as {listing.folders[0].name!r}); expected only images or only class folders"
        )
    if not listing.images and not listing.folders:
        raise DatasetError(f"{folder}: empty; expected <class>_<n>.jpg images or a folder of images for each class")
    return listing


def _list_folder(root: Path, folder: Path) -> _Listing:
    """The visible images and folders in a folder, in natural order."""
    try:
        if folder.is_symlink():
            _check_inside(root, folder)
        with os.scandir(folder) as entries:
            is_folder = {
                Path(entry.path): _is_folder(entry) for entry in entries if not entry.name.startswith((".", "__MACOSX"))
            }
    except OSError as error:
        raise DatasetError(f"{folder}: {error.strerror}; expected a readable folder") from error
    except DatasetError as error:
        raise DatasetError(f"{folder}: {error}") from error
    paths = sorted(is_folder, key=lambda path: _natural_key(path.name))
    return _Listing(
        images=tuple(path for path in paths if path.suffix.lower() in SUFFIXES and not is_folder[path]),
        folders=tuple(path for path in paths if is_folder[path]),
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed, refused later if it bears an image's name
        return False


def _natural_key(name: str) -> tuple[str, str]:
    """Sorts 2_10 after 2_9; the name itself orders those that differ in leading zeros alone."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name), name


def _check_inside(root: Path, link: Path) -> None:
    try:
        target = Path(os.path.realpath(link, strict=True))
    except OSError as error:
        raise DatasetError(f"symbolic link that leads nowhere: {error.strerror}") from error
    if not target.is_relative_to(root):
        raise DatasetError(f"symbolic link to {str(target)!r}, outside the image folder")


def _scan_flat(root: Path, training: Sequence[Path], validation: Sequence[Path]) -> _ImageFolder:
    """Read Food-11's layout, where the label is in the file name."""
    names = _read_class_names(root / "classes.txt")
    known: Collection[int]
    if names is None:
        known, source = {_label_in_name(path) for path in training} - {-1}, "training/"
    else:
        known, source = range(len(names)), f"classes.txt, which names {len(names)} classes"

    def label_of(path: Path) -> int:
        label = _label_in_name(path)
        if label < 0:
            raise DatasetError("no class in its name; expected <class>_<n>, such as 3_17.jpg")
        if label not in known:
            raise DatasetError(f"its label {label} does not occur in {source}")
        return label

    files = _image_files(root, (training, validation), label_of)
    classes = names or range(max(known) + 1)
    _check_all_trained(root, classes, {file.label for file in files[0]})
    return _ImageFolder(root, tuple(map(str, classes)), *files)


def _label_in_name(path: Path) -> int:
    """The integer before the first underscore, -1 if there is none (or one no label could be)."""
    match = re.match("([0-9]{1,9})_", path.name)
    return int(match[1]) if match else -1


def _read_class_names(path: Path) -> tuple[str, ...] | None:
    try:
        if not path.exists() and not path.is_symlink():
            return None
        _status(path.parent, path)
        names = tuple(line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines())
        check_class_names(names)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}; expected one class name a line, in UTF-8") from error
    return names


def _scan_class_folders(root: Path, training: Sequence[Path], validation: Sequence[Path]) -> _ImageFolder:
    """Read the layout of one folder a class."""
    classes = tuple(folder.name for folder in training)
    try:
        check_class_names(classes)
    except DatasetError as error:
        raise DatasetError(f"{root / 'training'}: {error}") from error
    listings = [[_list_folder(root, folder) for folder in folders] for folders in (training, validation)]
    _refuse(root, _stray_folders(root, training, validation, [*listings[0], *listings[1]]))
    labels = {name: label for label, name in enumerate(classes)}
    images = [[path for listing in split for path in listing.images] for split in listings]
    files = _image_files(root, images, lambda path: labels[path.parent.name])
    _check_all_trained(root, classes, {file.label for file in files[0]})
    if not files[1]:
        raise DatasetError(f"{root / 'validation'}: no image in any of its class folders")
    return _ImageFolder(root, classes, *files)


def _stray_folders(
    root: Path, training: Sequence[Path], validation: Sequence[Path], listings: Iterable[_Listing]
) -> list[SkippedFile]:
    """The class folders that one split lacks, and folders where only images belong."""
    strays = []
    for folders, others, split in ((training, validation, "validation"), (validation, training, "training")):
        shared = {folder.name for folder in others}
        strays += [
            SkippedFile(folder.relative_to(root).as_posix(), f"{split}/ has no such class folder")
            for folder in folders
            if folder.name not in shared
        ]
    strays += [
        SkippedFile(folder.relative_to(root).as_posix(), "folder inside a class folder; expected images only")
        for listing in listings
        for folder in listing.folders
    ]
    return strays


def _image_files(
    root: Path, splits: Sequence[Sequence[Path]], label_of: Callable[[Path], int]
) -> tuple[tuple[_ImageFile, ...], tuple[_ImageFile, ...]]:
    """Label the images of both splits, or refuse the ones that must not be read or have no label."""
    problems = []
    found: tuple[list[_ImageFile], list[_ImageFile]] = ([], [])
    for files, paths in zip(found, splits, strict=True):
        for path in paths:
            name = path.relative_to(root).as_posix()
            try:
                files.append(_ImageFile(name, path, label_of(path), _status(root, path)))
            except DatasetError as error:
                problems.append(SkippedFile(name, str(error)))
    _refuse(root, problems)
    return tuple(found[0]), tuple(found[1])


def _status(root: Path, path: Path) -> os.stat_result:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            _check_inside(root, path)
            status = path.stat()
    except OSError as error:
        raise DatasetError(f"{error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DatasetError("not a regular file")
    return status


def _check_all_trained(root: Path, classes: Sequence[str] | Sequence[int], trained: set[int]) -> None:
    missing = (label for label in range(len(classes)) if label not in trained)
    listed = ", ".join(repr(classes[label]) for label in islice(missing, _LISTED))
    if not listed:
        return
    more = len(classes) - len(trained) - _LISTED
    raise DatasetError(
        f"{root / 'training'}: no usable image of class {listed}{f' and {more} more' if more > 0 else ''}"
    )


def _cache_key(folder: _ImageFolder, resolution: int) -> str:
    # The mode is part of the key, since a file that could not be read can be after a chmod.
    files = [
        (file.name, file.label, file.status.st_size, file.status.st_mtime_ns, file.status.st_mode)
        for file in folder.training + folder.validation
    ]
    text = json.dumps([_CACHE_VERSION, resolution, str(folder.root), folder.classes, files])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _cached_report(path: Path, key: str) -> FolderReport | None:
    try:
        record = json.loads(path.with_suffix(".json").read_text("utf-8"))
        dataset = load_dataset(path)
        skipped = tuple(SkippedFile(**entry) for entry in record["skipped"])
        report = FolderReport(path, stored_hash(path), dataset.classes, skipped)
        fresh = record["key"] == key and record["content_hash"] == report.content_hash
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return report if fresh else None


def _assemble(folder: _ImageFolder, images: NDArray[np.uint8], unusable: set[int]) -> Dataset:
    """Put the rows that could be decoded together, training before validation."""
    labels = np.array([file.label for file in folder.training + folder.validation], dtype=np.int64)
    border = len(folder.training)
    if unusable:
        usable = np.array([row not in unusable for row in range(len(labels))])
        images, labels, border = images[usable], labels[usable], int(usable[:border].sum())
    _check_all_trained(folder.root, folder.classes, set(labels[:border].tolist()))
    if border == len(labels):
        raise DatasetError(f"{folder.root / 'validation'}: no usable image is left")
    training, validation = Split(images[:border], labels[:border]), Split(images[border:], labels[border:])
    return Dataset(folder.classes, training, validation)


def _save(dataset: Dataset, skipped: tuple[SkippedFile, ...], path: Path, key: str) -> FolderReport:
    save_dataset(dataset, path)
    report = FolderReport(path, stored_hash(path), dataset.classes, skipped)
    record = {
        "key": key,
        "content_hash": report.content_hash,
        "skipped": [asdict(file) for file in skipped],
    }
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record), "utf-8")
    return report


def _decode_files(
    files: Sequence[_ImageFile], resolution: int, progress: Callable[[int, int], None] | None
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode images side by side.

    Returns:
        The images, shape (n, resolution, resolution, 3), and why the rows that are not filled could not be.
    """
    images = np.empty((len(files), resolution, resolution, 3), dtype=np.uint8)
    reasons = {}
    with warnings.catch_warnings():
        # Broken metadata beside good pixels is no fault, and sizes that Pillow warns of are above our limit.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        try:
            for row, reason in enumerate(pool.map(_decode_row, files, images)):
                if reason is not None:
                    reasons[row] = reason
                if progress is not None:
                    progress(row + 1, len(files))
        finally:
            pool.shutdown(cancel_futures=True)
    return images, reasons


def _decode_row(file: _ImageFile, row: NDArray[np.uint8]) -> str | None:
    """Decode an image into a row of shape (resolution, resolution, 3); returns why that failed, if it did."""
    try:
        row[:] = _decode(file.path, len(row))
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        return f"too large: more than {MAX_PIXELS} pixels"
    except UnidentifiedImageError:
        return f"not a {', '.join(_FORMATS)} image" if file.status.st_size else "empty file (0 bytes)"
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        return f"damaged image: {error}"
    return None


def _decode(path: Path, resolution: int) -> NDArray[np.uint8]:
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        # A JPEG is decoded at the smallest eighth that leaves the filter at least two pixels for one.
        image.draft(None, (2 * resolution, 2 * resolution))
        ImageOps.exif_transpose(image, in_place=True)
        square = ImageOps.fit(_to_rgb(image), (resolution, resolution), Image.Resampling.LANCZOS)
        return np.asarray(square)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow itself would clip at 255
        grey = np.asarray(image) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
