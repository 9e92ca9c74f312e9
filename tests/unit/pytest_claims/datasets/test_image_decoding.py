import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import BLUE, GREEN, RED, WHITE, add_image, encoded, noise, refusing
from PIL import Image

from pytest_claims.datasets.image_decoding import decode_images
from pytest_claims.datasets.image_layout import ImageFile


def image_file(path):
    return ImageFile(path.name, path, 0, path.stat())


def decoded_pixels(folder, resolution, content, suffix=".png", **options):
    """What an image becomes, as an integer array of shape (resolution, resolution, 3)."""
    path = folder / f"image{suffix}"
    add_image(path, content, **options)
    images, reasons = decode_images([image_file(path)], resolution, None)
    assert not reasons
    return images[0].astype(int)


def png_header(width, height):
    """A PNG whose header claims a size, with next to no pixels behind it."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64))


# Pixels


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_every_format_is_decoded(tmp_path, suffix):
    assert np.abs(decoded_pixels(tmp_path, 8, RED, suffix) - RED).max() <= 4


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path):
    pixels = noise(8, 8, 3)
    assert np.array_equal(decoded_pixels(tmp_path, 8, pixels), pixels)


@pytest.mark.parametrize("wide", [True, False])
def test_the_short_side_is_resized_and_the_central_square_kept(tmp_path, wide):
    image = Image.fromarray(noise(16, 48, 3) if wide else noise(48, 16, 3))
    size, corner = ((24, 8), (8, 0)) if wide else ((8, 24), (0, 8))
    whole = image.resize(size, Image.Resampling.LANCZOS)
    expected = np.asarray(whole.crop((*corner, corner[0] + 8, corner[1] + 8)))
    assert np.abs(decoded_pixels(tmp_path, 8, image) - expected).max() <= 1


def test_fine_detail_is_averaged_not_aliased(tmp_path):
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pixels = decoded_pixels(tmp_path, 8, checkerboard)
    assert np.abs(pixels - 127.5).max() <= 2


def test_a_small_image_is_enlarged(tmp_path):
    assert np.array_equal(decoded_pixels(tmp_path, 8, BLUE, size=(3, 5))[4, 4], BLUE)


def test_a_needle_shaped_image_is_not_blown_up(tmp_path):
    pixels = decoded_pixels(tmp_path, 64, RED, size=(60_000, 1))
    assert np.array_equal(pixels, np.broadcast_to(RED, (64, 64, 3)))


def test_a_large_jpeg_decoded_at_a_fraction_looks_as_if_decoded_whole(tmp_path):
    detailed = np.asarray(Image.fromarray(noise(24, 36, 3)).resize((720, 480), Image.Resampling.BICUBIC))
    pixels = decoded_pixels(tmp_path, 48, detailed, ".jpg", quality=95)
    whole = Image.fromarray(detailed[:, 120:600]).resize((48, 48), Image.Resampling.LANCZOS)
    assert np.abs(pixels - np.asarray(whole)).mean() <= 2


# How each EXIF orientation stores an upright image (CIPA DC-008, tag 0x0112).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    assert np.array_equal(decoded_pixels(tmp_path, 8, stored, exif=exif), upright)


def test_a_turned_jpeg_decoded_at_a_fraction_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.repeat(np.repeat(np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8), 64, 0), 64, 1)
    stored = np.ascontiguousarray(STORED[6](upright))
    pixels = decoded_pixels(tmp_path, 8, stored, ".jpg", exif=exif)
    corners = pixels[[1, 1, 6, 6], [1, 6, 1, 6]]
    assert np.abs(corners - [RED, GREEN, BLUE, WHITE]).max() <= 8


def test_grey_images_get_three_equal_channels(tmp_path):
    grey = noise(8, 8)
    assert np.array_equal(decoded_pixels(tmp_path, 8, grey), np.repeat(grey[..., None], 3, 2))


def test_black_and_white_images_are_read(tmp_path):
    bits = noise(8, 8) > 127
    pixels = decoded_pixels(tmp_path, 8, Image.fromarray(bits))
    assert np.array_equal(pixels, np.repeat(bits[..., None] * 255, 3, 2))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    grey = np.arange(64).reshape(8, 8) * 4
    pixels = decoded_pixels(tmp_path, 8, (grey * 256 + 255 - grey).astype(np.uint16))
    assert np.array_equal(pixels, np.repeat(grey[..., None], 3, 2))


def test_palette_colours_are_looked_up_before_resizing(tmp_path):
    bands = np.zeros((16, 16), np.uint8)
    bands[:, 8:] = 2
    image = Image.fromarray(bands).convert("P")
    image.putpalette([*RED, *GREEN, *BLUE])
    pixels = decoded_pixels(tmp_path, 8, image)
    assert np.array_equal(pixels[0, 0], RED)
    assert np.array_equal(pixels[0, 7], BLUE)
    assert pixels[..., 1].max() == 0


def test_transparent_pixels_are_laid_on_white(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:] = [*RED, 0]
    rgba[:4, :, 3] = 255
    rgba[0, :, 3] = 128
    pixels = decoded_pixels(tmp_path, 8, rgba)
    assert np.array_equal(pixels[1:4], np.broadcast_to(RED, (3, 8, 3)))
    assert np.array_equal(pixels[4:], np.broadcast_to(WHITE, (4, 8, 3)))
    assert np.abs(pixels[0] - [255, 127, 127]).max() <= 1


def test_a_transparent_palette_colour_is_laid_on_white(tmp_path):
    image = Image.fromarray(np.eye(8, dtype=np.uint8)).convert("P")
    image.putpalette([*RED, *BLUE])
    pixels = decoded_pixels(tmp_path, 8, image, transparency=bytes([0, 255]))
    expected = np.where(np.eye(8, dtype=bool)[..., None], BLUE, WHITE)
    assert np.array_equal(pixels, expected)


def test_cmyk_jpegs_become_rgb(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = decoded_pixels(tmp_path, 8, image, ".jpg", quality=95)
    assert np.abs(pixels - RED).max() <= 4


# Images that cannot be used

BAD_IMAGES = {
    "text": (b"hello, I am no image", "not a JPEG, PNG, BMP, WEBP image"),
    "empty": (b"", "empty file (0 bytes)"),
    "gif": (encoded("GIF"), "not a JPEG, PNG, BMP, WEBP image"),
    "truncated_jpeg": (encoded("JPEG")[:-200], "damaged image: "),
    "truncated_png": (encoded("PNG")[:-200], "damaged image: "),
    "truncated_bmp": (encoded("BMP")[:-200], "damaged image: "),
    "jpeg_start": (encoded("JPEG")[:30], ""),
    "png_start": (encoded("PNG")[:20], ""),
    "webp_start": (encoded("WEBP")[:40], ""),
    "bomb": (png_header(100_000, 100_000), "too large: more than 50000000 pixels"),
    "smaller_bomb": (png_header(10_000, 10_000), "too large: more than 50000000 pixels"),
    "just_too_large": (png_header(8_000, 6_251), "too large: more than 50000000 pixels"),
    "claims_much": (png_header(8_000, 6_000), "damaged image: "),
    "no_pixels": (png_header(0, 8), "not a JPEG, PNG, BMP, WEBP image"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_of_a_bad_image_the_reason_is_told_and_its_neighbours_are_decoded(tmp_path, kind):
    content, reason = BAD_IMAGES[kind]
    add_image(tmp_path / "before.png", RED)
    (tmp_path / "bad.jpg").write_bytes(content)
    add_image(tmp_path / "after.png", BLUE)
    files = [image_file(tmp_path / name) for name in ("before.png", "bad.jpg", "after.png")]
    images, reasons = decode_images(files, 8, None)
    assert reasons.keys() == {1}
    assert reasons[1].startswith(reason)
    assert reasons[1]
    assert np.array_equal(images[[0, 2]], np.broadcast_to([[[RED]], [[BLUE]]], (2, 8, 8, 3)))


def test_of_an_unreadable_image_the_reason_is_the_systems(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    add_image(path)
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read anything
        monkeypatch.setattr(Path, "open", refusing(Path.open, path))
    assert decode_images([image_file(path)], 8, None)[1] == {0: "Permission denied"}


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_damaged_images_are_decoded_or_reported_never_a_crash(tmp_path_factory, data):
    content = bytearray(encoded(data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "damaged.jpg").write_bytes(content)
    add_image(folder / "good.png", RED)
    images, reasons = decode_images([image_file(folder / name) for name in ("damaged.jpg", "good.png")], 8, None)
    assert reasons.keys() <= {0}
    assert all(reason and "0x7f" not in reason for reason in reasons.values())
    assert np.array_equal(images[1], np.broadcast_to(RED, (8, 8, 3)))


# Many images


def test_many_images_keep_their_order_and_progress_counts_each(tmp_path):
    for number in range(20):
        add_image(tmp_path / f"{number}.png", (number, 0, 0))
    calls = []
    files = [image_file(tmp_path / f"{number}.png") for number in range(20)]
    images, _ = decode_images(files, 4, lambda done, total: calls.append((done, total)))
    assert images[:, 0, 0, 0].tolist() == list(range(20))
    assert calls == [(done, 20) for done in range(1, 21)]


def test_an_interrupt_stops_decoding(tmp_path, monkeypatch):
    add_image(tmp_path / "image.png")
    opened, open_path = [], Path.open

    def slow_open(path, *arguments, **options):
        opened.append(path)
        time.sleep(0.005)
        return open_path(path, *arguments, **options)

    def interrupt(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", slow_open)
    with pytest.raises(KeyboardInterrupt):
        decode_images([image_file(tmp_path / "image.png")] * 200, 8, interrupt)
    assert len(opened) < 100
