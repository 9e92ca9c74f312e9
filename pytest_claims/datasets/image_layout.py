"""Which files of an image folder are images, in which order, and which labels they have; no image is opened."""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pytest_claims.datasets.dataset import DatasetError, check_class_names

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

SPLITS = ("training", "validation")
_LISTED = 10


@dataclass(frozen=True)
class SkippedFile:
    """A file or folder that cannot be used.

    Attributes:
        name: Path inside the image folder, with forward slashes.
        reason: Why it could not be used.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class ImageFile:
    """A labelled image file, not yet opened.

    Attributes:
        name: Path inside the image folder, with forward slashes.
        path: Where it is.
        label: Index of its class.
        status: Its size, time of change and mode; of the target where it is a link.
    """

    name: str
    path: Path
    label: int
    status: os.stat_result


@dataclass(frozen=True)
class ImageFolder:
    """The images of both splits, each in natural order: 2_9 comes before 2_10.

    Attributes:
        root: The folder, with no link left in its path.
        classes: Name of each class; a label is an index into it.
        training: At least one image of each class, of which there are two or more.
        validation: Likewise.
    """

    root: Path
    classes: tuple[str, ...]
    training: tuple[ImageFile, ...]
    validation: tuple[ImageFile, ...]


@dataclass(frozen=True)
class _Listing:
    images: tuple[Path, ...]
    folders: tuple[Path, ...]


def find_images(root: Path) -> ImageFolder:
    """Find the images and their labels, without opening an image.

    Args:
        root: A folder in one of the two layouts that `prepare_image_folder` describes.

    Raises:
        DatasetError: The folder or one of its files cannot be used; all files of that kind are named in the one
            error.
    """
    try:
        root = Path(os.path.realpath(root, strict=True))
    except OSError as error:
        raise DatasetError(f"{root}: {error.strerror}; expected a folder of images") from error
    training, validation = (_list_split(root, split) for split in SPLITS)
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


def _scan_flat(root: Path, training: Sequence[Path], validation: Sequence[Path]) -> ImageFolder:
    """Read the flat layout, where the label is in the file name."""
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
    if names is None:
        _check_no_gap(root, files[0])
    return _image_folder(root, names or tuple(map(str, range(max(known) + 1))), files)


def _check_no_gap(root: Path, training: Sequence[ImageFile]) -> None:
    """Refuse the files whose labels lie beyond one that no file has."""
    labels = {file.label for file in training}
    gap = next(label for label in count() if label not in labels)
    reason = f"leaves class {gap} without a training image"
    refuse(root, [SkippedFile(file.name, f"its label {file.label} {reason}") for file in training if file.label > gap])


def _image_folder(
    root: Path, classes: tuple[str, ...], files: tuple[tuple[ImageFile, ...], tuple[ImageFile, ...]]
) -> ImageFolder:
    if len(classes) < 2:
        raise DatasetError(f"{root}: images of one class, {classes[0]!r}; expected at least two to tell apart")
    for split, images in zip(SPLITS, files, strict=True):
        check_every_class(root / split, classes, {file.label for file in images})
    return ImageFolder(root, classes, *files)


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


def _scan_class_folders(root: Path, training: Sequence[Path], validation: Sequence[Path]) -> ImageFolder:
    """Read the layout of one folder a class."""
    classes = tuple(folder.name for folder in training)
    try:
        check_class_names(classes)
    except DatasetError as error:
        raise DatasetError(f"{root / 'training'}: {error}") from error
    listings = [[_list_folder(root, folder) for folder in folders] for folders in (training, validation)]
    refuse(root, _stray_folders(root, training, validation, [*listings[0], *listings[1]]))
    labels = {name: label for label, name in enumerate(classes)}
    images = [[path for listing in split for path in listing.images] for split in listings]
    files = _image_files(root, images, lambda path: labels[path.parent.name])
    return _image_folder(root, classes, files)


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
) -> tuple[tuple[ImageFile, ...], tuple[ImageFile, ...]]:
    """Label the images of both splits, or refuse the ones that must not be read or have no label."""
    problems = []
    found: tuple[list[ImageFile], list[ImageFile]] = ([], [])
    for files, paths in zip(found, splits, strict=True):
        for path in paths:
            name = path.relative_to(root).as_posix()
            try:
                files.append(ImageFile(name, path, label_of(path), _status(root, path)))
            except DatasetError as error:
                problems.append(SkippedFile(name, str(error)))
    refuse(root, problems)
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


def check_every_class(split: Path, classes: Sequence[str], labels: set[int]) -> None:
    """Check that every class has images in a split: one that none tests would not count in any accuracy.

    Args:
        split: The folder of the split.
        classes: What to call each class.
        labels: Those that its images have.

    Raises:
        DatasetError: Names the first classes without one, and counts the rest.
    """
    missing = [name for label, name in enumerate(classes) if label not in labels]
    if missing:
        listed, more = ", ".join(map(repr, missing[:_LISTED])), len(missing) - _LISTED
        raise DatasetError(f"{split}: no usable image of class {listed}{f' and {more} more' if more > 0 else ''}")


def refuse(root: Path, problems: Sequence[SkippedFile]) -> None:
    """Raise one error for all of the problems, if there are any.

    Raises:
        DatasetError: Names the first files or folders with their reasons, and counts the rest.
    """
    if not problems:
        return
    lines = [f"{root}: {len(problems)} of its files or folders cannot be used:"]
    lines += [f"  {problem.name!r}: {problem.reason}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  and {len(problems) - _LISTED} more")
    raise DatasetError("\n".join(lines))
