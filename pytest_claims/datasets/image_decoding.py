"""Decodes image files into small square images; what cannot be decoded is told, never raised."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pytest_claims.datasets.image_layout import ImageFile

DECODING_VERSION = 1
"""To be raised when the same files would be decoded to other pixels."""

MAX_PIXELS = 50_000_000
"""An image with more is not decoded: a few bytes can claim to be any size."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def decode_images(
    files: Sequence[ImageFile], resolution: int, progress: Callable[[int, int], None] | None
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode images side by side.

    Args:
        files: The n images.
        resolution: Height and width of the decoded images, in pixels.
        progress: Called with (images done, images in all) after each image, in order.

    Returns:
        The images, uint8, shape (n, resolution, resolution, 3), and why the rows that are not filled could not be.
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


def _decode_row(file: ImageFile, row: NDArray[np.uint8]) -> str | None:
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
