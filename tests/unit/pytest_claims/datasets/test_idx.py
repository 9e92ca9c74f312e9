import gzip
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.datasets.idx import IdxSpec, read_idx_dataset
from pytest_claims.datasets.preparation import prepare

CLASSES = ("a", "b")


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write(root, images, labels, compressed=False):
    root.mkdir(exist_ok=True)
    for name in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(array)
            path = root / f"{name}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)
    return root


IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([1, 0, 1, 1, 0, 0], np.uint8)


@given(images=arrays(np.uint8, st.tuples(st.just(3), st.integers(1, 9), st.integers(1, 9))), compressed=st.booleans())
def test_what_was_written_is_read(tmp_path_factory, images, compressed):
    root = write(tmp_path_factory.mktemp("idx"), images, LABELS[:3], compressed)
    split = read_idx_dataset(IdxSpec(root, CLASSES)).training
    np.testing.assert_array_equal(split.images[..., 0], images)
    np.testing.assert_array_equal(split.labels, LABELS[:3])


def test_the_first_of_each_class_are_taken_in_order(tmp_path):
    dataset = read_idx_dataset(IdxSpec(write(tmp_path / "x", IMAGES, LABELS), CLASSES, 2, 1))
    assert dataset.training.labels.tolist() == [1, 0, 1, 0]
    np.testing.assert_array_equal(dataset.training.images[..., 0], IMAGES[[0, 1, 2, 4]])
    assert dataset.validation.labels.tolist() == [1, 0]


def test_a_class_with_too_few_images_is_named(tmp_path):
    with pytest.raises(DatasetError, match="has 3 images of a, should have the 4 that are asked for"):
        read_idx_dataset(IdxSpec(write(tmp_path / "x", IMAGES, LABELS), CLASSES, 4))


def damaged(content):
    yield "no IDX file", b""
    yield "no IDX file", content[:7]
    yield "no IDX file", b"\x00\x00\x0d\x03" + content[4:]
    yield "should have", content[:-1]
    yield "should have", content + b"x"
    yield "should have", content[:4] + b"\xff" * 12 + content[16:]


@pytest.mark.parametrize("case", range(6))
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, case):
    root = write(tmp_path / "x", IMAGES, LABELS)
    path = root / "train-images-idx3-ubyte"
    message, content = list(damaged(path.read_bytes()))[case]
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_idx_dataset(IdxSpec(root, CLASSES))
    assert str(path) in str(caught.value)


def test_images_without_as_many_labels_and_labels_without_a_class_are_told(tmp_path):
    root = write(tmp_path / "x", IMAGES, LABELS)
    (root / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:5]))
    with pytest.raises(DatasetError, match="has 5 labels, should have 6"):
        read_idx_dataset(IdxSpec(root, CLASSES))
    with pytest.raises(DatasetError, match="has label 1, should be below 1"):
        read_idx_dataset(IdxSpec(write(tmp_path / "y", IMAGES, LABELS), ("only",)))


def test_a_pipe_a_missing_file_and_a_damaged_archive_end_at_once(tmp_path):
    root = write(tmp_path / "x", IMAGES, LABELS)
    path = root / "t10k-labels-idx1-ubyte"
    path.unlink()
    with pytest.raises(DatasetError, match=r"no such file, nor with \.gz"):
        read_idx_dataset(IdxSpec(root, CLASSES))
    os.mkfifo(path)
    with pytest.raises(DatasetError, match="is no regular file"):
        read_idx_dataset(IdxSpec(root, CLASSES))
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(idx(LABELS))[:-9])
    with pytest.raises(DatasetError, match="cannot be read"):
        read_idx_dataset(IdxSpec(root, CLASSES))


def test_a_prepared_data_set_is_known_by_its_content(tmp_path):
    spec = IdxSpec(write(tmp_path / "x", IMAGES, LABELS), CLASSES)
    first, second = (prepare(spec, tmp_path / "cache") for _ in range(2))
    assert first == second
    (tmp_path / "x/train-labels-idx1-ubyte").write_bytes(idx(LABELS[::-1]))
    assert prepare(spec, tmp_path / "cache").identity != first.identity
