import io
import os
import shutil
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments.datasets.dataset import DatasetError, content_hash, load_dataset
from experiments.datasets.image_folder import SkippedFile, prepare_image_folder

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def add_image(path, content=GREEN, size=(8, 8), **options):
    """Saves a PIL image, an array, or an image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, tuple):
        content = Image.new("RGB", size, content)
    elif isinstance(content, np.ndarray):
        content = Image.fromarray(content)
    content.save(path, **options)


def flat_folder(root, training=("0_0.png", "1_0.png"), validation=("0_0.png", "1_0.png")):
    for name in training:
        add_image(root / "training" / name, RED)
    for name in validation:
        add_image(root / "validation" / name, BLUE)
    return root


def class_folders(root, classes=("cake", "soup")):
    return flat_folder(root, *[[f"{name}/a.png" for name in classes]] * 2)


def prepare(root, resolution=8, **options):
    return load_dataset(prepare_image_folder(root, resolution, root.parent / "cache", **options).dataset_path)


def prepared_pixels(root, resolution, content, suffix=".png", **options):
    """What an image becomes, as an integer array of shape (resolution, resolution, 3)."""
    flat_folder(root, training=["1_0.png"])
    add_image(root / "training" / f"0_0{suffix}", content, **options)
    return prepare(root, resolution).training.images[0].astype(int)


def error_of(root, **options):
    with pytest.raises(DatasetError) as error:
        prepare(root, **options)
    assert str(root) in str(error.value)
    return str(error.value)


def noise(height, width, *channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)


def png_header(width, height):
    """A PNG whose header claims a size, with next to no pixels behind it."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64))


def encoded(kind, size=(24, 24)):
    file = io.BytesIO()
    Image.fromarray(noise(*size, 3)).save(file, kind)
    return file.getvalue()


# Layouts, labels and order


def test_the_flat_layout_takes_labels_from_file_names_in_natural_order(tmp_path):
    root = tmp_path / "food"
    colours = {"0_10.png": 10, "10_1.png": 60, "0_9.png": 9, "0_2.png": 2}
    colours |= {f"{label}_0.png": 20 + label for label in range(1, 10)}
    for name, grey in colours.items():
        add_image(root / "training" / name, (grey, grey, grey))
    add_image(root / "validation" / "3_0.png")
    dataset = prepare(root)
    assert dataset.classes == tuple(map(str, range(11)))
    assert dataset.training.labels.tolist() == [0, 0, 0, *range(1, 11)]
    assert dataset.training.images[:, 0, 0, 0].tolist() == [2, 9, 10, *range(21, 30), 60]
    assert dataset.validation.labels.tolist() == [3]


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    names = [f"{label}_{number}.png" for label in range(2) for number in range(12)]
    root = flat_folder(tmp_path / "food", names)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            self.entries = scandir(path)

        def __enter__(self):
            return sorted(self.entries, key=lambda entry: entry.name, reverse=True)

        def __exit__(self, *error):
            self.entries.close()

    first = prepare_image_folder(root, 8, tmp_path / "cache")
    monkeypatch.setattr(os, "scandir", Reversed)
    assert prepare_image_folder(root, 8, tmp_path / "cache") == first


def test_class_names_come_from_classes_txt(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "classes.txt").write_bytes(b"\xef\xbb\xbfcr\xc3\xa8me \r\nsoup\r\n\r\n")
    assert prepare(root).classes == ("crème", "soup")


def test_class_folders_are_numbered_in_natural_order(tmp_path):
    root = class_folders(tmp_path / "food", ("class 10", "class 9", "apple"))
    add_image(root / "training" / "class 9" / "b.JPG", BLUE)
    dataset = prepare(root)
    assert dataset.classes == ("apple", "class 9", "class 10")
    assert dataset.training.labels.tolist() == [0, 1, 1, 2]
    assert dataset.validation.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("make", [flat_folder, class_folders])
def test_hidden_and_other_files_and_the_evaluation_split_are_ignored(tmp_path, make):
    root = make(tmp_path / "food")
    expected = prepare_image_folder(root, 8, tmp_path / "cache")
    folder = next((root / "training").rglob("*.png")).parent
    for name in (".DS_Store", "Thumbs.db", "._0_1.png", "notes.txt", "0_1.gif", "README"):
        (folder / name).write_bytes(b"not an image")
        (root / "training" / name).write_bytes(b"not an image")
    (root / "training" / ".thumbnails").mkdir()
    (root / "training" / "__MACOSX").mkdir()
    (root / "evaluation").mkdir()
    (root / "evaluation" / "0_0.jpg").write_bytes(b"not an image")
    assert prepare_image_folder(root, 8, tmp_path / "cache") == expected


def test_every_suffix_is_read_whatever_its_case(tmp_path):
    names = ["0_0.jpg", "0_1.JPEG", "0_2.Png", "0_3.BMP", "0_4.webp", "0_5.JPG"]
    dataset = prepare(flat_folder(tmp_path / "food", names, ["0_0.png"]))
    assert len(dataset.training.labels) == len(names)
    assert np.abs(dataset.training.images.astype(int) - RED).max() <= 4


# Pixels


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path):
    pixels = noise(8, 8, 3)
    assert np.array_equal(prepared_pixels(tmp_path / "food", 8, pixels), pixels)


@pytest.mark.parametrize("wide", [True, False])
def test_the_short_side_is_resized_and_the_central_square_kept(tmp_path, wide):
    image = Image.fromarray(noise(16, 48, 3) if wide else noise(48, 16, 3))
    size, corner = ((24, 8), (8, 0)) if wide else ((8, 24), (0, 8))
    whole = image.resize(size, Image.Resampling.LANCZOS)
    expected = np.asarray(whole.crop((*corner, corner[0] + 8, corner[1] + 8)))
    assert np.abs(prepared_pixels(tmp_path / "food", 8, image) - expected).max() <= 1


def test_fine_detail_is_averaged_not_aliased(tmp_path):
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pixels = prepared_pixels(tmp_path / "food", 8, checkerboard)
    assert np.abs(pixels - 127.5).max() <= 2


def test_a_small_image_is_enlarged(tmp_path):
    assert np.array_equal(prepared_pixels(tmp_path / "food", 8, BLUE, size=(3, 5))[4, 4], BLUE)


def test_a_needle_shaped_image_is_not_blown_up(tmp_path):
    pixels = prepared_pixels(tmp_path / "food", 64, RED, size=(60_000, 1))
    assert np.array_equal(pixels, np.broadcast_to(RED, (64, 64, 3)))


def test_a_large_jpeg_decoded_at_a_fraction_looks_as_if_decoded_whole(tmp_path):
    detailed = np.asarray(Image.fromarray(noise(24, 36, 3)).resize((720, 480), Image.Resampling.BICUBIC))
    pixels = prepared_pixels(tmp_path / "food", 48, detailed, ".jpg", quality=95)
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
    assert np.array_equal(prepared_pixels(tmp_path / "food", 8, stored, exif=exif), upright)


def test_a_turned_jpeg_decoded_at_a_fraction_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.repeat(np.repeat(np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8), 64, 0), 64, 1)
    stored = np.ascontiguousarray(STORED[6](upright))
    pixels = prepared_pixels(tmp_path / "food", 8, stored, ".jpg", exif=exif)
    corners = pixels[[1, 1, 6, 6], [1, 6, 1, 6]]
    assert np.abs(corners - [RED, GREEN, BLUE, WHITE]).max() <= 8


def test_grey_images_get_three_equal_channels(tmp_path):
    grey = noise(8, 8)
    assert np.array_equal(prepared_pixels(tmp_path / "food", 8, grey), np.repeat(grey[..., None], 3, 2))


def test_black_and_white_images_are_read(tmp_path):
    bits = noise(8, 8) > 127
    pixels = prepared_pixels(tmp_path / "food", 8, Image.fromarray(bits))
    assert np.array_equal(pixels, np.repeat(bits[..., None] * 255, 3, 2))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    grey = np.arange(64).reshape(8, 8) * 4
    pixels = prepared_pixels(tmp_path / "food", 8, (grey * 256 + 255 - grey).astype(np.uint16))
    assert np.array_equal(pixels, np.repeat(grey[..., None], 3, 2))


def test_palette_colours_are_looked_up_before_resizing(tmp_path):
    bands = np.zeros((16, 16), np.uint8)
    bands[:, 8:] = 2
    image = Image.fromarray(bands).convert("P")
    image.putpalette([*RED, *GREEN, *BLUE])
    pixels = prepared_pixels(tmp_path / "food", 8, image)
    assert np.array_equal(pixels[0, 0], RED)
    assert np.array_equal(pixels[0, 7], BLUE)
    assert pixels[..., 1].max() == 0


def test_transparent_pixels_are_laid_on_white(tmp_path):
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:] = [*RED, 0]
    rgba[:4, :, 3] = 255
    rgba[0, :, 3] = 128
    pixels = prepared_pixels(tmp_path / "food", 8, rgba)
    assert np.array_equal(pixels[1:4], np.broadcast_to(RED, (3, 8, 3)))
    assert np.array_equal(pixels[4:], np.broadcast_to(WHITE, (4, 8, 3)))
    assert np.abs(pixels[0] - [255, 127, 127]).max() <= 1


def test_a_transparent_palette_colour_is_laid_on_white(tmp_path):
    image = Image.fromarray(np.eye(8, dtype=np.uint8)).convert("P")
    image.putpalette([*RED, *BLUE])
    pixels = prepared_pixels(tmp_path / "food", 8, image, transparency=bytes([0, 255]))
    expected = np.where(np.eye(8, dtype=bool)[..., None], BLUE, WHITE)
    assert np.array_equal(pixels, expected)


def test_cmyk_jpegs_become_rgb(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = prepared_pixels(tmp_path / "food", 8, image, ".jpg", quality=95)
    assert np.abs(pixels - RED).max() <= 4


# Folders that cannot be used


def test_a_missing_root_is_named(tmp_path):
    assert "No such file or directory; expected a folder of images" in error_of(tmp_path / "nothing")


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_missing_or_empty_split_is_named(tmp_path, split):
    root = flat_folder(tmp_path / "food")
    shutil.rmtree(root / split)
    assert f"{root / split}: No such file or directory; expected a readable folder" in error_of(root)
    (root / split).mkdir()
    (root / split / "notes.txt").touch()
    assert f"{root / split}: empty; expected <class>_<n>.jpg images or a folder" in error_of(root)
    (root / split / "notes.txt").unlink()
    (root / split).rmdir()
    (root / split).touch()
    assert f"{root / split}: Not a directory" in error_of(root)


def test_images_beside_class_folders_are_refused(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "training" / "soup").mkdir()
    assert "holds images (such as '0_0.png') beside folders (such as 'soup')" in error_of(root)


def test_splits_of_different_layout_are_refused(tmp_path):
    root = flat_folder(tmp_path / "food", validation=["cake/a.png", "soup/a.png"])
    assert "expected the same layout in both" in error_of(root)


def test_class_folders_of_one_split_only_are_listed(tmp_path):
    root = flat_folder(tmp_path / "food", ["cake/a.png", "soup/a.png"], ["cake/a.png", "stew/a.png"])
    message = error_of(root)
    assert "2 of its files or folders" in message
    assert "'training/soup': validation/ has no such class folder" in message
    assert "'validation/stew': training/ has no such class folder" in message


def test_a_folder_inside_a_class_folder_is_refused(tmp_path):
    root = class_folders(tmp_path / "food")
    (root / "validation" / "soup" / "more").mkdir()
    assert "'validation/soup/more': folder inside a class folder" in error_of(root)


def test_class_folders_without_images_are_refused(tmp_path):
    root = class_folders(tmp_path / "food", ("cake", "soup", "stew"))
    (root / "training" / "soup" / "a.png").unlink()
    assert error_of(root).endswith("no usable image of class 'soup'")
    add_image(root / "training" / "soup" / "a.png")
    for image in (root / "validation").rglob("*.png"):
        image.unlink()
    assert "no image in any of its class folders" in error_of(root)


def test_a_class_folder_name_that_cannot_be_printed_is_refused(tmp_path):
    root = class_folders(tmp_path / "food", ("cake", "so\nup"))
    assert r"'so\nup' holds a control character" in error_of(root)


def test_file_names_without_a_class_are_listed(tmp_path):
    bad = ["cake_1.png", "_1.png", "-1_0.png", "1.png", "1.5_0.png", "1234567890_0.png"]
    message = error_of(flat_folder(tmp_path / "food", ["0_0.png", *bad], ["0_0.png"]))
    for name in bad:
        assert f"'training/{name}': no class in its name; expected <class>_<n>, such as 3_17.jpg" in message
    assert "'training/0_0.png'" not in message


def test_labels_that_classes_txt_does_not_name_are_listed(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "1_0.png", "2_0.png"], ["0_0.png", "7_0.png"])
    (root / "classes.txt").write_text("cake\nsoup\n")
    message = error_of(root)
    assert "'training/2_0.png': its label 2 does not occur in classes.txt, which names 2 classes" in message
    assert "'validation/7_0.png': its label 7" in message


def test_validation_labels_unknown_in_training_are_listed(tmp_path):
    root = flat_folder(tmp_path / "food", validation=["1_0.png", "2_0.png"])
    assert "'validation/2_0.png': its label 2 does not occur in training/" in error_of(root)


def test_gaps_in_the_training_labels_are_named(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "2_0.png", "5_0.png"], ["0_0.png"])
    assert error_of(root).endswith("no usable image of class 1, 3, 4")


def test_a_huge_gap_in_the_training_labels_is_not_spelt_out(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "999999999_0.png"], ["0_0.png"])
    assert error_of(root).endswith("class 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 999999988 more")


def test_a_named_class_without_training_images_is_refused(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "classes.txt").write_text("cake\nsoup\nstew\n")
    assert error_of(root).endswith("no usable image of class 'stew'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cake\n\nsoup\n", "'' is blank"),
        (b"cake\ncake\n", "'cake' occurs twice"),
        (b"\n", "no classes"),
        (b"cake\nsoup\xff\n", "can't decode byte 0xff"),
    ],
)
def test_a_bad_classes_txt_is_named(tmp_path, content, message):
    root = flat_folder(tmp_path / "food")
    (root / "classes.txt").write_bytes(content)
    assert message in error_of(root)
    assert str(root / "classes.txt") in error_of(root)


@pytest.mark.parametrize("resolution", [0, -64, 2049, 64.0, "64", None, True])
def test_a_bad_resolution_is_refused(tmp_path, resolution):
    with pytest.raises(DatasetError, match=f"resolution is {resolution!r}; expected a whole number"):
        prepare_image_folder(flat_folder(tmp_path / "food"), resolution, tmp_path / "cache")


def test_links_out_of_the_folder_are_refused(tmp_path):
    root = flat_folder(tmp_path / "food")
    add_image(tmp_path / "secret.png")
    (root / "training" / "0_1.png").symlink_to(tmp_path / "secret.png")
    (root / "training" / "0_2.png").symlink_to("../../secret.png")
    (root / "training" / "0_3.png").symlink_to("missing.png")
    (root / "training" / "0_4.png").symlink_to("0_4.png")
    message = error_of(root, skip_bad_images=True)
    outside = f"symbolic link to {str(tmp_path / 'secret.png')!r}, outside the image folder"
    assert f"'training/0_1.png': {outside}" in message
    assert f"'training/0_2.png': {outside}" in message
    assert "'training/0_3.png': symbolic link that leads nowhere" in message
    assert "'training/0_4.png': symbolic link that leads nowhere" in message


@pytest.mark.parametrize("name", ["training", "validation/soup", "classes.txt"])
def test_folders_and_classes_linked_from_outside_are_refused(tmp_path, name):
    root = flat_folder(tmp_path / "food") if name == "classes.txt" else class_folders(tmp_path / "food")
    (root / "classes.txt").write_text("cake\nsoup\n")
    (root / name).rename(tmp_path / "elsewhere")
    (root / name).symlink_to(tmp_path / "elsewhere")
    message = error_of(root)
    assert f"{root / name}: symbolic link to {str(tmp_path / 'elsewhere')!r}, outside" in message


def test_links_inside_the_folder_and_to_the_folder_are_followed(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "training" / "1_1.png").symlink_to("../validation/0_0.png")
    (tmp_path / "link").symlink_to(root)
    dataset = prepare(tmp_path / "link")
    assert np.array_equal(dataset.training.images[2, 0, 0], BLUE)


def test_a_pipe_is_refused_not_waited_for(tmp_path):
    root = flat_folder(tmp_path / "food")
    os.mkfifo(root / "training" / "0_1.png")
    assert "'training/0_1.png': not a regular file" in error_of(root)


def test_unreadable_folders_are_named(tmp_path, monkeypatch):
    root = flat_folder(tmp_path / "food")
    (root / "training").chmod(0)
    if os.access(root / "training", os.R_OK):  # the superuser may read anything
        monkeypatch.setattr(os, "scandir", refusing(os.scandir, root / "training"))
    message = error_of(root)
    (root / "training").chmod(0o700)
    assert f"{root / 'training'}: Permission denied; expected a readable folder" in message


def refusing(function, refused):
    def call(path, *arguments, **options):
        if Path(path) == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return function(path, *arguments, **options)

    return call


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
def test_a_bad_image_is_refused_or_left_out(tmp_path, kind):
    content, reason = BAD_IMAGES[kind]
    root = flat_folder(tmp_path / "food")
    (root / "training" / "0_1.jpg").write_bytes(content)
    assert f"1 of its files or folders cannot be used:\n  'training/0_1.jpg': {reason}" in error_of(root)
    report = prepare_image_folder(root, 8, tmp_path / "cache", skip_bad_images=True)
    dataset = load_dataset(report.dataset_path)
    assert [file.name for file in report.skipped] == ["training/0_1.jpg"]
    assert report.skipped[0].reason.startswith(reason)
    assert dataset.training.labels.tolist() == [0, 1]
    assert np.array_equal(dataset.training.images[:, 0, 0], [RED, RED])
    assert np.array_equal(dataset.validation.images[:, 0, 0], [BLUE, BLUE])


def test_the_first_ten_bad_images_are_listed_and_the_rest_counted(tmp_path):
    root = flat_folder(tmp_path / "food")
    for number in range(1, 13):
        (root / "validation" / f"1_{number}.jpg").write_bytes(b"no image")
    lines = error_of(root).splitlines()
    assert lines[0] == f"{root}: 12 of its files or folders cannot be used:"
    assert [line.split(":")[0] for line in lines[1:-1]] == [f"  'validation/1_{number}.jpg'" for number in range(1, 11)]
    assert lines[-1] == "  and 2 more"


def test_bad_images_are_left_out_of_both_splits_in_place(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "0_2.png", "1_0.png"])
    for name in ("training/0_1.png", "validation/0_1.png", "validation/1_1.png"):
        (root / name).write_bytes(b"no image")
    report = prepare_image_folder(root, 8, tmp_path / "cache", skip_bad_images=True)
    reason = "not a JPEG, PNG, BMP, WEBP image"
    assert report.skipped == tuple(
        SkippedFile(name, reason) for name in ("training/0_1.png", "validation/0_1.png", "validation/1_1.png")
    )
    dataset = load_dataset(report.dataset_path)
    assert dataset.training.labels.tolist() == [0, 0, 1]
    assert dataset.validation.labels.tolist() == [0, 1]


def test_a_class_left_without_training_images_is_refused(tmp_path):
    root = class_folders(tmp_path / "food")
    (root / "training" / "soup" / "a.png").write_bytes(b"no image")
    assert error_of(root, skip_bad_images=True).endswith("no usable image of class 'soup'")


def test_a_validation_split_left_without_images_is_refused(tmp_path):
    root = flat_folder(tmp_path / "food", validation=["0_0.png"])
    (root / "validation" / "0_0.png").write_bytes(b"no image")
    assert f"{root / 'validation'}: no usable image is left" in error_of(root, skip_bad_images=True)


def test_skipping_does_not_forgive_a_bad_structure(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "cake.png"])
    assert "no class in its name" in error_of(root, skip_bad_images=True)


def test_an_unreadable_image_is_named_and_read_once_it_may_be(tmp_path, monkeypatch):
    root = flat_folder(tmp_path / "food", ["0_0.png", "0_1.png", "1_0.png"])
    secret = root / "training" / "0_1.png"
    secret.chmod(0)
    with monkeypatch.context() as patch:
        if os.access(secret, os.R_OK):  # the superuser may read anything
            patch.setattr(Path, "open", refusing(Path.open, secret))
        assert "'training/0_1.png': Permission denied" in error_of(root)
        assert len(prepare(root, skip_bad_images=True).training.labels) == 2
    secret.chmod(0o600)
    assert len(prepare(root, skip_bad_images=True).training.labels) == 3


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_damaged_images_are_decoded_or_reported_never_a_crash(tmp_path_factory, data):
    content = bytearray(encoded(data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    root = flat_folder(tmp_path_factory.mktemp("damaged") / "food")
    (root / "training" / "0_1.jpg").write_bytes(content)
    report = prepare_image_folder(root, 8, root.parent / "cache", skip_bad_images=True)
    decoded = len(load_dataset(report.dataset_path).training.labels)
    assert decoded + len(report.skipped) == 3
    assert all(file.reason and "0x7f" not in file.reason for file in report.skipped)


# The cache


class Decoding:
    """Counts the images decoded."""

    def __init__(self):
        self.calls = []

    def __call__(self, done, total):
        self.calls.append((done, total))

    def count(self):
        calls, self.calls = self.calls, []
        return len(calls)


def test_progress_counts_every_image(tmp_path):
    calls = Decoding()
    prepare(flat_folder(tmp_path / "food"), progress=calls)
    assert calls.calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_interrupt_stops_decoding_and_leaves_nothing(tmp_path, monkeypatch):
    root = flat_folder(tmp_path / "food", [f"0_{number}.png" for number in range(200)], ["0_0.png"])
    opened, open_path = [], Path.open

    def slow_open(path, *arguments, **options):
        opened.append(path)
        time.sleep(0.005)
        return open_path(path, *arguments, **options)

    def interrupt(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", slow_open)
    with pytest.raises(KeyboardInterrupt):
        prepare(root, progress=interrupt)
    assert len(opened) < 100
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_nothing_is_decoded_twice(tmp_path):
    root, calls = flat_folder(tmp_path / "food"), Decoding()
    first = prepare_image_folder(root, 8, tmp_path / "cache", progress=calls)
    assert calls.count() == 4
    assert prepare_image_folder(root, 8, tmp_path / "cache", progress=calls) == first
    assert prepare_image_folder(root, 8, tmp_path / "cache", progress=calls, skip_bad_images=True) == first
    assert calls.count() == 0


def test_skipped_files_are_reported_from_the_cache_and_still_refused(tmp_path):
    root, calls = flat_folder(tmp_path / "food"), Decoding()
    (root / "training" / "0_1.png").write_bytes(b"no image")
    options = {"skip_bad_images": True, "progress": calls}
    first = prepare_image_folder(root, 8, tmp_path / "cache", **options)
    assert calls.count() == 5
    assert prepare_image_folder(root, 8, tmp_path / "cache", **options) == first
    assert calls.count() == 0
    assert len(first.skipped) == 1
    assert "'training/0_1.png'" in error_of(root)


def change_time(root):
    os.utime(root / "training" / "0_0.png", ns=(1, 1))


def change_content(root):
    add_image(root / "training" / "0_0.png", BLUE)


def add_file(root):
    add_image(root / "validation" / "0_7.png")


def remove_file(root):
    (root / "validation" / "0_0.png").unlink()


def name_classes(root):
    (root / "classes.txt").write_text("cake\nsoup\n")


@pytest.mark.parametrize("change", [change_time, change_content, add_file, remove_file, name_classes])
def test_a_changed_folder_is_decoded_anew(tmp_path, change):
    root, calls = flat_folder(tmp_path / "food"), Decoding()
    first = prepare_image_folder(root, 8, tmp_path / "cache", progress=calls)
    calls.count()
    change(root)
    second = prepare_image_folder(root, 8, tmp_path / "cache", progress=calls)
    assert calls.count() in (3, 4, 5)
    assert (second.content_hash == first.content_hash) == (change is change_time)


def test_another_resolution_and_another_folder_have_their_own_data_sets(tmp_path):
    root = flat_folder(tmp_path / "food")
    shutil.copytree(root, tmp_path / "copy")
    reports = [
        prepare_image_folder(root, 8, tmp_path / "cache"),
        prepare_image_folder(root, 16, tmp_path / "cache"),
        prepare_image_folder(tmp_path / "copy", 8, tmp_path / "cache"),
    ]
    assert len({report.dataset_path for report in reports}) == 3
    assert load_dataset(reports[1].dataset_path).training.images.shape == (2, 16, 16, 3)
    assert reports[2].content_hash == reports[0].content_hash


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def delete_record(path):
    path.with_suffix(".json").unlink()


def cut_record_short(path):
    path.with_suffix(".json").write_text('{"key": ')


def empty_record(path):
    path.with_suffix(".json").write_text("[]")


def another_data_set(path):
    other = prepare_image_folder(class_folders(path.parent / "other"), 8, path.parent / "other_cache")
    shutil.copy(other.dataset_path, path)


@pytest.mark.parametrize(
    "damage", [Path.unlink, flip_a_byte, cut_short, delete_record, cut_record_short, empty_record, another_data_set]
)
def test_a_damaged_cache_is_decoded_anew(tmp_path, damage):
    root, calls = flat_folder(tmp_path / "food"), Decoding()
    first = prepare_image_folder(root, 8, tmp_path / "cache", progress=calls)
    calls.count()
    damage(first.dataset_path)
    assert prepare_image_folder(root, 8, tmp_path / "cache", progress=calls) == first
    assert calls.count() == 4
    assert content_hash(load_dataset(first.dataset_path)) == first.content_hash


def test_two_processes_do_not_decode_the_same_folder_twice(tmp_path):
    flat_folder(tmp_path / "food")
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from experiments.datasets.image_folder import prepare_image_folder

        folder, calls = Path(sys.argv[1]), []
        (folder / f"ready_{sys.argv[2]}").touch()
        while len(list(folder.glob("ready_*"))) < 2:
            time.sleep(0.01)

        def slow(done, total):
            calls.append(done)
            time.sleep(0.05)

        report = prepare_image_folder(folder / "food", 8, folder / "cache", progress=slow)
        print(len(calls), report.content_hash)
    """)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(number)],
            cwd=Path(__file__).parents[4],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(count for count, _ in outputs) == ["0", "4"]
    assert outputs[0][1] == outputs[1][1]
