import numpy as np
import pytest

from compression.packing.state_file import read_packed
from compression.quantization.affine import AffineTensor
from pytest_claims.recipes.recipe import Recipe


@pytest.fixture(scope="module")
def aware(run, cnn, budget):
    def train_with(budget):
        parents = (("original", cnn.context.recipe),)
        architecture = cnn.context.recipe.architecture
        return run(
            Recipe("experiments.builders.quantize_aware", architecture, "target", budget, (("bits", 2),), parents),
            original=cnn,
        )

    return train_with


def test_what_is_measured_is_what_the_codes_in_the_file_give(aware, budget, check_training, cnn):
    made = aware(budget)
    check_training(made)
    quantized = {name: t for name, t in read_packed(made.weights).items() if isinstance(t, AffineTensor)}
    assert quantized.keys() == {name for name, value in cnn.state.items() if value.ndim > 1}
    for name, tensor in quantized.items():
        assert (tensor.grid.bits, tensor.grid.symmetric) == (2, False)
        assert all(len(np.unique(row)) <= 4 for row in made.state[name].reshape(len(made.state[name]), -1))


def test_training_moves_codes(aware, budget, still):
    moved, kept = read_packed(aware(budget).weights), read_packed(aware(still).weights)
    codes = [name for name, tensor in moved.items() if isinstance(tensor, AffineTensor)]
    assert any(not np.array_equal(moved[name].codes, kept[name].codes) for name in codes)
