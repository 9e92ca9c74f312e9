"""Images, files and folders of images to be decoded."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

Content = Image.Image | NDArray[np.generic] | tuple[int, int, int]


def add_image(path: Path, content: Content = GREEN, size: tuple[int, int] = (8, 8), **options: object) -> None:
    """Saves an image, an array, or an image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, tuple):
        content = Image.new("RGB", size, content)
    elif isinstance(content, np.ndarray):
        content = Image.fromarray(content)
    content.save(path, **options)


def flat_folder(
    root: Path,
    training: Iterable[str] = ("0_0.png", "1_0.png"),
    validation: Iterable[str] = ("0_0.png", "1_0.png"),
) -> Path:
    for name in training:
        add_image(root / "training" / name, RED)
    for name in validation:
        add_image(root / "validation" / name, BLUE)
    return root


def class_folders(root: Path, classes: Iterable[str] = ("cake", "soup")) -> Path:
    names = [f"{name}/a.png" for name in classes]
    return flat_folder(root, names, names)


def noise(height: int, width: int, *channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def encoded(kind: str) -> bytes:
    """A file of the format `kind`, with 24 x 24 pixels of noise."""
    file = io.BytesIO()
    Image.fromarray(noise(24, 24, 3)).save(file, kind)
    return file.getvalue()


def refusing(function: Callable[..., object], refused: Path) -> Callable[..., object]:
    """The function as it is for a user who may not read the path `refused`."""

    def call(path: Path, *arguments: object, **options: object) -> object:
        if Path(path) == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return function(path, *arguments, **options)

    return call
