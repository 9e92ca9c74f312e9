import resource
from dataclasses import replace

import numpy as np
import pytest
from image_files import flat_folder
from PIL import Image

from pytest_claims.datasets import preparation
from pytest_claims.datasets.dataset import DatasetError, content_hash, load_dataset
from pytest_claims.datasets.fractal import FractalSpec, make_fractal_dataset
from pytest_claims.datasets.preparation import FolderSpec, ResampledSpec, drawing_identity, of_seed, prepare
from pytest_claims.datasets.resampling import resampled

SPEC = FractalSpec(3, 2, 3, 2, 8, jitter=0.3, noise=0.1)


@pytest.fixture
def made(monkeypatch):
    """The specifications that images were drawn for."""
    asked = []

    def noted(spec):
        asked.append(spec)
        return make_fractal_dataset(spec)

    monkeypatch.setattr(preparation, "make_fractal_dataset", noted)
    return asked


def test_fractal_images_are_known_by_their_formula(tmp_path):
    prepared = prepare(SPEC, tmp_path / "cache" / "deeper")
    expected = make_fractal_dataset(SPEC)
    dataset = load_dataset(prepared.path)
    assert np.array_equal(dataset.training.images, expected.training.images)
    assert np.array_equal(dataset.validation.labels, expected.validation.labels)
    assert prepared.identity == drawing_identity(SPEC) != drawing_identity(replace(SPEC, drawing=1))
    assert content_hash(prepared.load()) == content_hash(expected)
    assert prepared.notes == ()


def test_a_second_call_makes_nothing(tmp_path, made):
    first = prepare(SPEC, tmp_path)
    written = first.path.stat().st_mtime_ns
    assert prepare(SPEC, tmp_path) == first
    assert made == [SPEC]
    assert first.path.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [first.path]


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"/file/cache: a data set cannot be written there \(Not a directory\)"):
        prepare(SPEC, tmp_path / "file" / "cache")


def test_a_full_disk_is_told_of_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(DatasetError, match=r"a data set cannot be written there \(.*File too large"):
            prepare(SPEC, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "cache").iterdir()) == []
    assert load_dataset(prepare(SPEC, tmp_path / "cache").path).classes


def test_another_specification_has_another_file(tmp_path, made):
    first, second = prepare(SPEC, tmp_path), prepare(replace(SPEC, noise=0.2), tmp_path)
    assert first.path != second.path
    assert first.identity != second.identity
    assert len(made) == 2


def test_edited_code_draws_anew(tmp_path, made, monkeypatch):
    first = prepare(SPEC, tmp_path)
    monkeypatch.setattr(preparation, "code_fingerprint", lambda modules: f"edited {modules}")
    second = prepare(SPEC, tmp_path)
    assert first.path != second.path
    assert first.identity != second.identity
    assert len(made) == 2


def test_exchanged_drawings_are_found_and_drawn_anew(tmp_path):
    first, second = (prepare(of_seed(SPEC, seed), tmp_path) for seed in (0, 1))
    first.path.write_bytes(second.path.read_bytes())
    with pytest.raises(DatasetError, match=f"holds the data set {second.identity}, expected {first.identity}"):
        first.load()
    assert content_hash(prepare(of_seed(SPEC, 0), tmp_path).load()) != content_hash(second.load())


def test_each_seed_divides_a_resampled_folder_anew_from_one_file(tmp_path):
    folder = FolderSpec(flat_folder(tmp_path / "food", validation=["0_0.png", "1_0.png"]), 8)
    fixed = prepare(folder, tmp_path / "cache")
    assert of_seed(folder, 3) == folder
    first, second = (prepare(of_seed(ResampledSpec(folder), seed), tmp_path / "cache") for seed in (0, 1))
    assert fixed.path == first.path == second.path
    assert len({fixed.identity, first.identity, second.identity}) == 3
    assert content_hash(first.load()) == content_hash(resampled(fixed.load(), 0))


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[:-10], lambda content: b"\0" * len(content), flipped],
    ids=["empty", "cut short", "overwritten", "one bit of a label"],
)
def test_a_damaged_file_is_made_again(tmp_path, made, damage):
    first = prepare(SPEC, tmp_path)
    first.path.write_bytes(damage(first.path.read_bytes()))
    assert prepare(SPEC, tmp_path) == first
    assert content_hash(first.load()) == content_hash(make_fractal_dataset(SPEC))
    assert made == [SPEC, SPEC]


@pytest.fixture
def folder(tmp_path):
    for split in ("training", "validation"):
        (tmp_path / "images" / split).mkdir(parents=True)
        for label in (0, 1):
            pixels = np.full((20, 16, 3), 100 * label, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / split / f"{label}_0.jpg")
    return tmp_path / "images"


def test_a_folder_of_images_is_decoded_once(tmp_path, folder):
    done = []
    spec = FolderSpec(folder, 8)
    first = prepare(spec, tmp_path / "cache", lambda count, total: done.append((count, total)))
    dataset = load_dataset(first.path)
    assert dataset.training.images.shape == (2, 8, 8, 3)
    assert first.identity == content_hash(dataset)
    assert done[-1] == (4, 4)
    done.clear()
    assert prepare(spec, tmp_path / "cache", lambda count, total: done.append((count, total))) == first
    assert done in ([], [(4, 4)])


def test_what_was_left_out_is_noted_with_its_reason(tmp_path, folder):
    (folder / "training" / "1_1.jpg").write_bytes(b"no image")
    prepared = prepare(FolderSpec(folder, 8, skip_bad_images=True), tmp_path / "cache")
    (note,) = prepared.notes
    assert note.startswith("left out training/1_1.jpg: ")
    assert len(note) > len("left out training/1_1.jpg: ")
    assert len(load_dataset(prepared.path).training.labels) == 2


def test_a_folder_that_should_be_a_known_data_set_has_its_images_those_counted_that_were_left_out(tmp_path, folder):
    assert prepare(FolderSpec(folder, 8, expected=(2, 2)), tmp_path / "cache").notes == ()
    (folder / "validation" / "1_1.jpg").write_bytes(b"no image")
    with_bad = FolderSpec(folder, 8, skip_bad_images=True, expected=(2, 3))
    assert len(prepare(with_bad, tmp_path / "cache").notes) == 1
    for expected in ((2, 2), (9_000, 3)):
        told = rf"images: has 5 images, should have {expected[0]:,} in training/ and {expected[1]} in validation/"
        with pytest.raises(DatasetError, match=told):
            prepare(replace(with_bad, expected=expected), tmp_path / "cache")
