import numpy as np
import torch

from compression.packing.state_file import read_packed
from compression.quantization.affine import AffineSpec, quantize_affine
from pytest_claims.recipes.recipe import Recipe


def test_weights_have_one_scale_a_tensor_and_all_else_is_the_parents(run, student, check_measurements):
    architecture, parents = student.context.recipe.architecture, (("original", student.context.recipe),)
    recipe = Recipe("experiments.controls.round_weights", architecture, "target", None, (("bits", 2),), parents)
    rounded = run(recipe, original=student)
    check_measurements(rounded)
    codes = 0
    for name, tensor in read_packed(rounded.weights).items():
        original = student.state[name]
        if original.ndim > 1:
            expected = quantize_affine(torch.from_numpy(original), AffineSpec(2, axis=None))
            assert np.array_equal(tensor.codes.numpy(), expected.codes.numpy()), name
            assert tensor.grid.scale.shape == (1,)
            codes += 1
        else:
            assert np.array_equal(tensor.numpy(), original), name
    assert codes
