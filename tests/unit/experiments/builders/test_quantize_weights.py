import numpy as np
import pytest
import torch

from compression.packing.model_file import model_tensors
from compression.packing.state_file import read_packed
from compression.quantization.affine import AffineSpec, quantize_affine
from compression.quantization.ranges import least_squares
from pytest_claims.recipes.recipe import Recipe


@pytest.fixture(scope="module")
def quantized(run, student, budget):
    def quantize_to(bits):
        parents = (("original", student.context.recipe),)
        architecture = student.context.recipe.architecture
        recipe = Recipe(
            "experiments.builders.quantize_weights", architecture, "target", budget, (("bits", bits),), parents
        )
        return run(recipe, original=student)

    return quantize_to


@pytest.mark.parametrize("bits", [2, 8])
def test_weights_are_the_nearest_codes_and_the_rest_but_statistics_is_the_parents(
    quantized, student, check_measurements, bits
):
    made = quantized(bits)
    check_measurements(made)
    codes = 0
    for name, tensor in read_packed(made.weights).items():
        original = student.state[name]
        if original.ndim > 1:
            expected = quantize_affine(torch.from_numpy(original), AffineSpec(bits, ranges=least_squares))
            assert np.array_equal(tensor.codes.numpy(), expected.codes.numpy()), name
            codes += 1
        elif name.rpartition(".")[2] in ("weight", "bias"):
            assert np.array_equal(tensor.numpy(), original), name
    assert codes == sum(value.ndim > 1 for value in student.state.values())


def test_statistics_are_estimated_anew_and_fewer_bits_take_fewer_bytes(quantized, student):
    made = quantized(8)
    statistics = [name for name in made.state if name.endswith("running_mean")]
    assert statistics
    assert not any(np.array_equal(made.state[name], student.state[name]) for name in statistics)
    assert quantized(2).weights.stat().st_size < made.weights.stat().st_size
    assert model_tensors(made.model(3)).keys() == student.state.keys()
