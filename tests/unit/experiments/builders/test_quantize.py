import numpy as np
import pytest
import torch

from experiments.builders.quantize import SMALL_WEIGHT, kernel_weights, weight_measurements
from experiments.models import build_model
from pytest_claims.recipes.recipe import Recipe


@pytest.fixture(scope="module")
def quantize(run, cnn):
    def quantize_to(bits):
        settings = (("bits", bits),)
        parents = (("original", cnn.context.recipe),)
        return run(
            Recipe("experiments.builders.quantize", cnn.context.recipe.architecture, "target", None, settings, parents),
            original=cnn,
        )

    return quantize_to


@pytest.mark.parametrize("bits", [8, 16])
def test_the_file_is_measured_as_it_is_read_back(quantize, bits, check_measurements, cnn):
    made = quantize(bits)
    check_measurements(made)
    assert made.built.history == []
    assert made.built.measurements["parameters"] == cnn.built.measurements["parameters"]
    assert made.built.measurements["best_accuracy"] == made.built.measurements["accuracy"]
    assert made.weights.stat().st_size < {16: 0.7, 8: 0.5}[bits] * cnn.weights.stat().st_size
    assert all(np.array_equal(made.state[name], value.numpy()) for name, value in made.built.state.items())


def eight_bits(values):
    """As the course's code, in float64: the range's 256 even steps."""
    if values.ndim == 0 or values.dtype != np.float32:
        return values
    low, high = float(values.min()), float(values.max())
    if low == high:
        return values
    codes = np.round((values.astype(np.float64) - low) / (high - low) * 255)
    return low + codes * (high - low) / 255


def test_weights_are_the_parents_at_256_even_steps(quantize, cnn):
    state = quantize(8).state
    for name, value in cnn.state.items():
        assert np.allclose(state[name], eight_bits(value), rtol=1e-6, atol=1e-7), name
    changed = [name for name, value in cnn.state.items() if not np.array_equal(state[name], value)]
    assert {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.running_mean"} <= set(changed)


def test_16_bits_are_float16(quantize, cnn):
    state = quantize(16).state
    for name, value in cnn.state.items():
        expected = value.astype(np.float16) if value.ndim and value.dtype == np.float32 else value
        assert np.array_equal(state[name], expected), name


def ranks(values):
    return np.argsort(np.argsort(values))


def test_what_8_bits_do_to_the_weights_is_measured(quantize, cnn):
    kernels = [v.astype(np.float64) for k, v in cnn.state.items() if k.endswith("weight") and v.ndim > 1]
    errors = [eight_bits(v.astype(np.float32)) - v for v in kernels]
    flat, off = (np.concatenate([v.ravel() for v in each]) for each in (kernels, errors))
    relative = [np.linalg.norm(e) / np.linalg.norm(v) for v, e in zip(kernels, errors, strict=True)]
    sizes = [np.sqrt(np.mean(v**2)) for v in kernels]
    measured = quantize(8).built.measurements
    assert len(kernels) == 6
    assert measured["small_weight_share"] == pytest.approx(100 * np.mean(np.abs(flat) < SMALL_WEIGHT), rel=1e-12)
    expected = 100 * np.linalg.norm(off) / np.linalg.norm(flat)
    assert measured["relative_error"] == pytest.approx(expected, rel=1e-4)
    correlation = np.corrcoef(ranks(sizes), ranks(relative))[0, 1]
    assert measured["size_error_correlation"] == pytest.approx(correlation, rel=1e-9)


def test_16_bits_have_no_such_measurements(quantize):
    assert set(quantize(16).built.measurements) == {"parameters", "macs", "accuracy", "best_accuracy"}


def test_small_weights_are_those_below_the_bound_on_either_side():
    weights = [torch.tensor([0.0999, -0.0999, 0.1, -0.1]), torch.tensor([5.0, -0.05, 0.0, 1.0])]
    assert weight_measurements(weights)["small_weight_share"] == 50.0


def test_kernels_are_copies_of_convolutions_and_linear_layers_alone(cnn):
    model = build_model(cnn.context.recipe.architecture, 3)
    kernels = kernel_weights(model)
    before = [kernel.clone() for kernel in kernels]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert [kernel.ndim for kernel in kernels] == [4] * 5 + [2]
    assert all(torch.equal(kernel, copy) for kernel, copy in zip(kernels, before, strict=True))


def test_other_bits_are_refused(quantize):
    with pytest.raises(ValueError, match=r"bits must be one of .*, not 4"):
        quantize(4)
