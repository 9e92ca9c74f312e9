import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pytest_claims.datasets.dataset import Dataset, DatasetError, Split, save_dataset
from pytest_claims.datasets.size import DataSize, stored_size

count = st.integers(1, 9)


@settings(max_examples=25, deadline=None)
@given(count, count, count, count)
def test_a_file_tells_the_size_of_its_data_set(tmp_path_factory, training, validation, height, width):
    def split(images):
        return Split(np.zeros((images, height, width, 3), np.uint8), np.zeros(images, np.int64))

    path = tmp_path_factory.mktemp("data") / "images.safetensors"
    save_dataset(Dataset(("only",), split(training), split(validation)), path)
    assert stored_size(path) == DataSize(training, validation, height * width)


def flat(path):
    save_file({"training.images": np.zeros(4, np.uint8), "validation.images": np.zeros(4, np.uint8)}, path)


def empty(path):
    nothing = np.zeros((0, 8, 8, 3), np.uint8)
    save_file({"training.images": nothing, "validation.images": nothing}, path)


def weights(path):
    save_file({"weight": np.zeros(4, np.float32)}, path)


def truncated(path):
    weights(path)
    path.write_bytes(path.read_bytes()[:12])


@pytest.mark.parametrize("write", [flat, empty, weights, truncated, lambda path: None])
def test_what_is_no_data_set_is_named(tmp_path, write):
    path = tmp_path / "images.safetensors"
    write(path)
    with pytest.raises(DatasetError, match=r"images\.safetensors: "):
        stored_size(path)
