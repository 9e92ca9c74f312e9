import contextlib
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from pytest_claims.datasets import dataset as dataset_module
from pytest_claims.datasets.dataset import (
    Dataset,
    DatasetError,
    Split,
    content_hash,
    load_dataset,
    save_dataset,
    stored_identity,
)


def make_split(n=3, height=2, width=4, classes=2, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    return Split(images, np.arange(n, dtype=np.int64) % classes)


def make_dataset(classes=("apple", "bread")):
    return Dataset(classes, make_split(seed=1), make_split(n=2, seed=2))


def same_content(a, b):
    return (
        a.classes == b.classes
        and np.array_equal(a.training.images, b.training.images)
        and np.array_equal(a.training.labels, b.training.labels)
        and np.array_equal(a.validation.images, b.validation.images)
        and np.array_equal(a.validation.labels, b.validation.labels)
    )


@st.composite
def datasets(draw):
    text = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
    classes = draw(st.lists(text.filter(str.strip), min_size=1, max_size=4, unique=True))
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))

    def split():
        n = draw(st.integers(1, 3))
        labels = st.integers(0, len(classes) - 1)
        return Split(
            draw(hnp.arrays(np.uint8, (n, height, width, 3))),
            draw(hnp.arrays(np.int64, n, elements=labels)),
        )

    return Dataset(tuple(classes), split(), split())


IMAGES = np.zeros((2, 4, 4, 3), np.uint8)
LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "images have type float32; expected uint8"),
        (IMAGES.tolist(), LABELS, "images are a list; expected a NumPy array"),
        (IMAGES[0], LABELS, r"images have shape \(4, 4, 3\); expected 4 dimensions"),
        (IMAGES[..., :2], LABELS, "images have 2 channels; expected 1 or 3"),
        (IMAGES[:0], LABELS[:0], "expected at least one element"),
        (IMAGES[:, :, :0], LABELS, "expected at least one element"),
        (IMAGES, LABELS.astype(np.int32), "labels have type int32; expected int64"),
        (IMAGES, LABELS[:, None], "labels have shape"),
        (IMAGES, LABELS[:1], "2 images but 1 labels"),
        (IMAGES, LABELS - 1, "label -1 is negative"),
    ],
)
def test_split_refuses_arrays_that_are_not_labelled_images(images, labels, message):
    with pytest.raises(DatasetError, match=message):
        Split(images, labels)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((), "no classes"),
        (("a", " "), "' ' is blank"),
        (("a", "a"), "'a' occurs twice"),
        (("a", "b\x1b[2J"), "control character"),
        (("a", "b\udcff"), "not UTF-8"),
        (("a",), "training label 1 is out of range; expected 0 to 0"),
    ],
)
def test_dataset_refuses_classes_that_do_not_fit(classes, message):
    with pytest.raises(DatasetError, match=message):
        make_dataset(classes)


def test_grey_images_have_one_channel_in_both_splits():
    grey = Split(IMAGES[..., :1], LABELS)
    assert Dataset(("a",), grey, grey).training.images.shape == (2, 4, 4, 1)
    with pytest.raises(DatasetError, match=r"\(4, 4, 1\) .* in training, \(4, 4, 3\) in validation; expected one"):
        Dataset(("a",), grey, Split(IMAGES, LABELS))


def test_dataset_names_the_split_whose_label_is_out_of_range():
    with pytest.raises(DatasetError, match="validation label 2 is out of range; expected 0 to 1"):
        Dataset(("a", "b"), make_split(), make_split(classes=3))


def test_dataset_refuses_splits_of_different_image_size():
    with pytest.raises(DatasetError, match=r"\(2, 4, 3\) .* in training, \(4, 2, 3\) in validation"):
        Dataset(("a", "b"), make_split(), make_split(height=4, width=2))


def test_content_hash_is_sha256_of_header_images_and_little_endian_labels():
    dataset = make_dataset(("apple", "crème"))
    header = json.dumps(["compression-claims image data set 1", ["apple", "crème"], [[3, 2, 4, 3], [2, 2, 4, 3]]])
    content = struct.pack("<Q", len(header)) + header.encode()
    for split in (dataset.training, dataset.validation):
        content += split.images.tobytes() + struct.pack(f"<{len(split.labels)}q", *split.labels.tolist())
    assert content_hash(dataset) == hashlib.sha256(content).hexdigest()


def test_content_hash_ignores_memory_layout(tmp_path):
    dataset = make_dataset()
    wide = np.zeros((6, 4, 2, 3), np.uint8)
    strided = wide[::2].transpose(0, 2, 1, 3)
    strided[:] = dataset.training.images
    other = Dataset(dataset.classes, Split(strided, np.repeat(dataset.training.labels, 2)[::2]), dataset.validation)
    assert not strided.flags.c_contiguous
    assert content_hash(other) == content_hash(dataset)
    save_dataset(other, tmp_path / "strided.safetensors")
    assert same_content(load_dataset(tmp_path / "strided.safetensors"), dataset)


def test_content_hash_tells_apart_whatever_differs():
    base = make_dataset()
    training, validation = base.training, base.validation
    pixel = training.images.copy()
    pixel[2, 1, 3, 2] ^= 1
    others = [
        Dataset(("apple", "broad"), training, validation),
        Dataset(("bread", "apple"), training, validation),
        Dataset(("apple", "bread", "cake"), training, validation),
        Dataset(base.classes, Split(pixel, training.labels), validation),
        Dataset(base.classes, Split(training.images, 1 - training.labels), validation),
        Dataset(base.classes, training, Split(validation.images[::-1], validation.labels)),
        Dataset(base.classes, validation, training),
        Dataset(
            base.classes,
            Split(training.images.reshape(3, 4, 2, 3), training.labels),
            Split(validation.images.reshape(2, 4, 2, 3), validation.labels),
        ),
    ]
    assert len({content_hash(dataset) for dataset in [base, *others]}) == len(others) + 1


@settings(deadline=None, max_examples=30)
@given(dataset=datasets())
def test_load_inverts_save(tmp_path_factory, dataset):
    path = tmp_path_factory.mktemp("round_trip") / "data.safetensors"
    save_dataset(dataset, path)
    loaded = load_dataset(path)
    assert same_content(loaded, dataset)
    assert stored_identity(path) == content_hash(dataset) == content_hash(loaded)
    assert loaded.training.images.flags.writeable
    assert loaded.training.labels.flags.writeable


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_flipped_byte_never_gives_other_data(tmp_path_factory, data):
    dataset = make_dataset()
    path = tmp_path_factory.mktemp("flipped") / "data.safetensors"
    save_dataset(dataset, path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(DatasetError):
        assert same_content(load_dataset(path), dataset)


def test_a_flipped_bit_in_any_image_or_label_is_found(tmp_path):
    path = tmp_path / "data.safetensors"
    save_dataset(make_dataset(), path)
    content = path.read_bytes()
    first = 8 + struct.unpack("<Q", content[:8])[0]
    for position in range(first, len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DatasetError, match=str(path)):
            load_dataset(path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(tmp_path, part):
    path = tmp_path / "data.safetensors"
    save_dataset(make_dataset(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    for read in (load_dataset, stored_identity):
        with pytest.raises(DatasetError, match=f"{path}: not a usable data set file"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"training.images": 1}),
        b"PK\x03\x04 an archive",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 50_000) + b'{"a":' + b"[" * 49_995,
    ],
    ids=["pickle", "archive", "header_of_2^63", "header_of_2^40", "empty_header", "nested_header"],
)
def test_foreign_bytes_are_refused(tmp_path, content):
    path = tmp_path / "data.safetensors"
    path.write_bytes(content)
    for read in (load_dataset, stored_identity):
        with pytest.raises(DatasetError, match=f"{path}: not a usable data set file"):
            read(path)


def test_content_appended_to_a_file_is_refused(tmp_path):
    path = tmp_path / "data.safetensors"
    save_dataset(make_dataset(), path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DatasetError, match="not a usable data set file"):
        load_dataset(path)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(DatasetError, match=f"{path}: not a usable data set file: no such file"):
            load_dataset(path)


def rewritten(path, arrays=None, **metadata):
    """Saves a good data set, then writes it again with some parts of the file replaced."""
    dataset = make_dataset()
    save_dataset(dataset, path)
    good = {
        "format": "compression-claims image data set 1",
        "identity": content_hash(dataset),
        "content_hash": content_hash(dataset),
        "classes": json.dumps(dataset.classes),
    }
    metadata = {name: value for name, value in (good | metadata).items() if value is not None}
    save_file(load_file(path) | (arrays or {}), path, metadata)


def test_a_file_rewritten_unchanged_is_accepted(tmp_path):
    path = tmp_path / "data.safetensors"
    rewritten(path)
    assert same_content(load_dataset(path), make_dataset())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": None}, "its format is None"),
        ({"format": "another"}, "its format is 'another'"),
        ({"content_hash": None}, "content hash None, expected 64 hexadecimal digits"),
        ({"identity": "a formula"}, "identity 'a formula', expected 64 hexadecimal digits"),
        ({"content_hash": "0" * 63}, "expected 64 hexadecimal digits"),
        ({"content_hash": "0" * 64}, f"content hash is [0-9a-f]{{64}}, expected {'0' * 64}"),
        ({"classes": None}, "no class names"),
        ({"classes": "apple, bread"}, "class names are not JSON"),
        ({"classes": "[" * 100_000}, "class names are not JSON"),
        ({"classes": "9" * 10_000}, "class names are not JSON"),
        ({"classes": '"ab"'}, "expected a list of strings"),
        ({"classes": "[1, 2]"}, "expected a list of strings"),
        ({"classes": "[]"}, "no classes"),
        ({"classes": '["apple"]'}, "label 1 is out of range"),
        ({"classes": '["bread", "apple"]'}, "content hash is"),
    ],
)
def test_an_altered_header_is_refused(tmp_path, metadata, message):
    path = tmp_path / "data.safetensors"
    rewritten(path, **metadata)
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"extra": np.zeros(1, np.uint8)}, "it holds .*extra"),
        ({"training.images": np.zeros((3, 2, 4, 3), np.float32)}, "it holds .*F32"),
        ({"training.labels": np.zeros(3, np.uint64)}, "it holds .*U64"),
        ({"training.labels": np.full(3, -1)}, "label -1 is negative"),
        ({"training.labels": np.zeros(4, np.int64)}, "3 images but 4 labels"),
        ({"training.images": np.zeros((0, 2, 4, 3), np.uint8)}, "at least one element"),
        ({"training.labels": np.ones(3, np.int64)}, "content hash is"),
    ],
)
def test_altered_arrays_are_refused(tmp_path, arrays, message):
    path = tmp_path / "data.safetensors"
    rewritten(path, arrays)
    with pytest.raises(DatasetError, match=message) as error:
        load_dataset(path)
    assert str(path) in str(error.value)


def test_a_file_of_another_data_set_is_refused(tmp_path):
    path, identity = tmp_path / "drawn.safetensors", "a" * 64
    save_dataset(make_dataset(), path, identity)
    assert stored_identity(path) == identity
    assert load_dataset(path, identity).classes == load_dataset(path).classes
    with pytest.raises(DatasetError, match=rf"drawn.safetensors: .*holds the data set {identity}, expected {'b' * 64}"):
        load_dataset(path, "b" * 64)


def test_stored_identity_does_not_read_the_images(tmp_path):
    path = tmp_path / "data.safetensors"
    rewritten(path, {"training.images": np.zeros((3, 2, 4, 3), np.uint8)})
    assert stored_identity(path) == content_hash(make_dataset())


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "data.safetensors"
    save_dataset(make_dataset(), path)

    def half_written(arrays, temporary, metadata):
        assert temporary.parent == path.parent
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset_module, "save_file", half_written)
    with pytest.raises(OSError, match="No space left"):
        save_dataset(make_dataset(("other", "names")), path)
    assert list(tmp_path.iterdir()) == [path]
    assert same_content(load_dataset(path), make_dataset())


def test_a_save_replaces_the_old_file_and_is_as_readable_as_any(tmp_path):
    path, plain = tmp_path / "data.safetensors", tmp_path / "plain"
    plain.touch()
    save_dataset(make_dataset(), path)
    save_dataset(make_dataset(("other", "names")), path)
    assert load_dataset(path).classes == ("other", "names")
    assert path.stat().st_mode == plain.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [path, plain]


def test_data_sets_are_read_without_torch():
    code = "import sys, pytest_claims.datasets.image_folder; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4])
