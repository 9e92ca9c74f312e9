import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from torch import nn

from compression.quantization.state_dict import (
    QuantizedTensor,
    dequantize,
    dequantize_state_dict,
    quantize,
    quantize_state_dict,
    relative_error,
    to_float16,
)

LARGEST = float(np.finfo(np.float32).max)
finite_floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
finite_arrays = st_numpy.arrays(
    np.float32,
    st_numpy.array_shapes(min_dims=1, max_dims=4, max_side=5),
    # Neighbouring floats, whose range spans few units in the last place, are the hard case.
    elements=finite_floats | st.floats(1.0, 1.0009765625, width=32) | st.floats(-1.0, 1.0, width=32),
)
properties = settings(deadline=None, max_examples=50)


@given(finite_arrays)
@example(np.array([LARGEST], np.float32))
@properties
def test_error_is_at_most_half_a_step(weights):
    restored = dequantize(quantize(torch.from_numpy(weights))).numpy().astype(np.float64)
    exact = weights.astype(np.float64)
    half_step = (exact.max() - exact.min()) / 510
    # The restored value lies within the range, so rounding it to float32 moves it by at most half a unit in
    # the last place below the range's larger end; 1e-12 covers the float64 arithmetic.
    largest = np.abs(weights).max()
    rounding = float(largest - np.nextafter(largest, np.float32(0))) / 2
    assert np.abs(restored - exact).max() <= half_step * (1 + 1e-12) + rounding


@given(finite_arrays)
@properties
def test_minimum_and_maximum_are_reached_exactly(weights):
    quantized = quantize(torch.from_numpy(weights))
    restored = dequantize(quantized).numpy()
    assert (restored.min(), restored.max()) == (weights.min(), weights.max())
    assert (quantized.minimum, quantized.maximum) == (weights.min(), weights.max())
    np.testing.assert_array_equal(restored[weights == weights.max()], weights.max())
    np.testing.assert_array_equal(restored[weights == weights.min()], weights.min())


@given(finite_arrays)
@properties
def test_a_second_quantization_changes_nothing(weights):
    once = quantize(torch.from_numpy(weights))
    again = quantize(dequantize(once))
    assert torch.equal(again.codes, once.codes)
    assert (again.minimum, again.maximum) == (once.minimum, once.maximum)
    assert torch.equal(dequantize(again).view(torch.int32), dequantize(once).view(torch.int32))


@given(finite_arrays)
@properties
def test_codes_keep_the_order_of_the_values(weights):
    codes = quantize(torch.from_numpy(weights)).codes.numpy().astype(int)
    assert (np.diff(codes.ravel()[np.argsort(weights.ravel(), kind="stable")]) >= 0).all()


def test_codes_follow_the_formula_in_exact_arithmetic():
    # Range [-1, 1]: -1 + 2c/255. Half-way cases round to even.
    weights = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])
    assert quantize(weights).codes.tolist() == [0, 64, 128, 159, 255]
    assert quantize(torch.tensor([0.0, 0.5, 1.5, 2.5, 255.0])).codes.tolist() == [0, 0, 2, 2, 255]


def test_codes_of_a_large_tensor_agree_with_numpy():
    weights = torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    exact = weights.numpy().astype(np.float64)
    expected = np.round((exact - exact.min()) / (exact.max() - exact.min()) * 255)
    quantized = quantize(weights)
    assert quantized.codes.dtype == torch.uint8
    np.testing.assert_array_equal(quantized.codes.numpy(), expected)


@given(finite_floats, st.integers(1, 6))
@properties
def test_a_constant_tensor_comes_back_exactly(value, size):
    constant = torch.full((size,), value)
    assert torch.equal(dequantize(quantize(constant)), constant)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_an_empty_tensor_keeps_its_shape(shape):
    restored = dequantize(quantize(torch.empty(shape)))
    assert restored.shape == shape
    assert restored.dtype == torch.float32


def test_a_range_that_overflows_float32_is_handled():
    weights = torch.tensor([-LARGEST, 0.0, LARGEST / 2, LARGEST])
    restored = dequantize(quantize(weights))
    assert torch.isfinite(restored).all()
    assert restored[[0, 3]].tolist() == [-LARGEST, LARGEST]
    assert (restored - weights).abs().max() <= LARGEST / 255


def test_a_tiny_end_survives_beside_a_huge_one():
    weights = torch.tensor([-1e30, -5e29, 1e-30])
    restored = dequantize(quantize(weights))
    assert restored[0] == weights[0]
    assert restored[2] == weights[2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_value_that_is_not_finite_is_an_error_that_names_the_tensor(value, bits):
    state = {"fine": torch.ones(2), "conv.weight": torch.tensor([0.0, value])}
    with pytest.raises(ValueError, match=r"'conv.weight' holds 1 values that are not finite"):
        quantize_state_dict(state, bits)


def test_an_integer_tensor_is_an_error():
    with pytest.raises(ValueError, match=r"'steps' has dtype torch.int64"):
        quantize(torch.arange(3), "steps")


def test_float16_overflow_is_an_error_that_names_the_tensor():
    assert to_float16(torch.tensor([65504.0, -65504.0])).tolist() == [65504.0, -65504.0]
    with pytest.raises(ValueError, match=r"'fc.bias' holds a value of magnitude 65505; float16 ends at 65504"):
        quantize_state_dict({"fc.bias": torch.tensor([1.0, -65505.0])}, 16)


@pytest.mark.parametrize("bits", [0, 4, 32, None])
def test_unsupported_bits_are_an_error(bits):
    with pytest.raises(ValueError, match=r"bits must be one of \[8, 16\]"):
        quantize_state_dict({}, bits)


def test_a_whole_state_dict_is_quantized_but_for_scalars_and_integers():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with torch.no_grad():
        model(torch.randn(2, 3, 5, 5))
    state = model.state_dict() | {"scale": torch.tensor(0.3)}
    quantized = quantize_state_dict(state, 8)
    codes = [name for name, entry in quantized.items() if isinstance(entry, QuantizedTensor)]
    assert codes == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    restored = dequantize_state_dict(quantized)
    assert list(restored) == list(state)
    assert torch.equal(restored["1.num_batches_tracked"], state["1.num_batches_tracked"])
    assert restored["1.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(restored["scale"], state["scale"])
    for name in codes:
        assert torch.equal(restored[name], dequantize(quantize(state[name])))


def test_sixteen_bits_are_a_float16_cast():
    state = {"weight": torch.randn(5, 3), "scale": torch.tensor(0.3), "steps": torch.tensor(7)}
    half = quantize_state_dict(state, 16)
    np.testing.assert_array_equal(half["weight"].numpy(), state["weight"].numpy().astype(np.float16))
    restored = dequantize_state_dict(half)
    assert restored["weight"].dtype == torch.float32
    assert torch.equal(restored["weight"], state["weight"].half().float())
    assert (restored["scale"], restored["steps"]) == (state["scale"], state["steps"])


def test_kept_tensors_do_not_follow_the_model():
    norm = nn.BatchNorm1d(2)
    quantized = quantize_state_dict(norm.state_dict(), 8)
    norm(torch.randn(4, 2))
    assert quantized["num_batches_tracked"] == 0


@given(finite_arrays.filter(lambda weights: np.abs(weights).max() > 1e-30))
@properties
def test_relative_error_is_that_of_the_norms_in_float64(weights):
    exact = weights.astype(np.float64)
    restored = dequantize(quantize(torch.from_numpy(weights))).numpy().astype(np.float64)
    expected = np.linalg.norm(restored - exact) / np.linalg.norm(exact)
    assert relative_error(torch.from_numpy(weights)) == pytest.approx(expected, rel=1e-9)


def test_relative_error_of_gaussian_weights_is_that_of_uniform_rounding():
    weights = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    step = float(weights.max() - weights.min()) / 255
    # The rounding error is near uniform over a step, so its root mean square is step / sqrt(12).
    assert relative_error(weights) == pytest.approx(step / 12**0.5 / float(weights.std()), rel=0.02)


@pytest.mark.parametrize("weights", [torch.zeros(3), torch.empty(0)])
def test_relative_error_of_nothing_is_zero(weights):
    assert relative_error(weights) == 0


@pytest.mark.parametrize(
    ("codes", "minimum", "maximum", "message"),
    [
        (torch.zeros(2), 0.0, 1.0, "dtype torch.float32"),
        (torch.zeros(2, dtype=torch.uint8), 1.0, 0.0, "not above its maximum"),
        (torch.zeros(2, dtype=torch.uint8), float("nan"), 0.0, "must be finite"),
        (torch.zeros(2, dtype=torch.uint8), 0.0, float("inf"), "must be finite"),
    ],
)
def test_inconsistent_codes_or_ranges_are_an_error(codes, minimum, maximum, message):
    with pytest.raises(ValueError, match=message):
        QuantizedTensor(codes, minimum, maximum)
