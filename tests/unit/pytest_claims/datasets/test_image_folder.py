import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from image_files import BLUE, RED, add_image, class_folders, flat_folder, refusing

from pytest_claims.datasets.dataset import DatasetError, content_hash, load_dataset
from pytest_claims.datasets.image_folder import prepare_image_folder
from pytest_claims.datasets.image_layout import SkippedFile
from pytest_claims.keys.code_fingerprint import ROOT


def prepare(root, resolution=8, **options):
    return load_dataset(prepare_image_folder(root, resolution, root.parent / "cache", **options).dataset_path)


def error_of(root, **options):
    with pytest.raises(DatasetError) as error:
        prepare(root, **options)
    assert str(root) in str(error.value)
    return str(error.value)


class Decoding:
    """Counts the images decoded."""

    def __init__(self):
        self.calls = []

    def __call__(self, done, total):
        self.calls.append((done, total))

    def count(self):
        calls, self.calls = self.calls, []
        return len(calls)


# Images and labels


def test_images_labels_and_classes_become_a_data_set(tmp_path):
    root = flat_folder(tmp_path / "food", ["0_0.png", "0_1.png", "1_0.png"])
    (root / "classes.txt").write_text("cake\nsoup\n")
    add_image(root / "training" / "0_1.png", BLUE, (16, 12))
    report = prepare_image_folder(root, 8, tmp_path / "cache")
    dataset = load_dataset(report.dataset_path)
    assert report.classes == dataset.classes == ("cake", "soup")
    assert report.content_hash == content_hash(dataset)
    assert report.skipped == ()
    assert dataset.training.labels.tolist() == [0, 0, 1]
    assert dataset.validation.labels.tolist() == [0, 1]
    expected = np.broadcast_to(np.array([RED, BLUE, RED], np.uint8)[:, None, None], (3, 8, 8, 3))
    assert np.array_equal(dataset.training.images, expected)
    assert np.array_equal(dataset.validation.images, np.broadcast_to(np.array(BLUE, np.uint8), (2, 8, 8, 3)))


@pytest.mark.parametrize("resolution", [0, -64, 2049, 64.0, "64", None, True])
def test_a_bad_resolution_is_refused(tmp_path, resolution):
    with pytest.raises(DatasetError, match=f"resolution is {resolution!r}; expected a whole number"):
        prepare_image_folder(flat_folder(tmp_path / "food"), resolution, tmp_path / "cache")


# Images that cannot be used


def test_a_bad_image_is_refused_or_left_out(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "training" / "0_1.jpg").write_bytes(b"no image")
    reason = "not a JPEG, PNG, BMP, WEBP image"
    assert f"1 of its files or folders cannot be used:\n  'training/0_1.jpg': {reason}" in error_of(root)
    report = prepare_image_folder(root, 8, tmp_path / "cache", skip_bad_images=True)
    dataset = load_dataset(report.dataset_path)
    assert report.skipped == (SkippedFile("training/0_1.jpg", reason),)
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


def test_a_class_left_without_validation_images_is_refused(tmp_path):
    root = flat_folder(tmp_path / "food")
    (root / "validation" / "0_0.png").write_bytes(b"no image")
    assert error_of(root, skip_bad_images=True).endswith(f"{root / 'validation'}: no usable image of class '0'")


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


# The cache


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(flat_folder(tmp_path / "food"), progress=interrupt)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


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
    (root / "validation" / "0_1.png").unlink()


def name_classes(root):
    (root / "classes.txt").write_text("cake\nsoup\n")


@pytest.mark.parametrize("change", [change_time, change_content, add_file, remove_file, name_classes])
def test_a_changed_folder_is_decoded_anew(tmp_path, change):
    root, calls = flat_folder(tmp_path / "food"), Decoding()
    add_image(root / "validation" / "0_1.png", RED)
    first = prepare_image_folder(root, 8, tmp_path / "cache", progress=calls)
    calls.count()
    change(root)
    second = prepare_image_folder(root, 8, tmp_path / "cache", progress=calls)
    assert calls.count() in (4, 5, 6)
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
        from pytest_claims.datasets.image_folder import prepare_image_folder

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
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=600)[0].split() for process in processes]
    assert sorted(count for count, _ in outputs) == ["0", "4"]
    assert outputs[0][1] == outputs[1][1]
