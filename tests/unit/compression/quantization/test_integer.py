import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.layers.weights import INPUT, OUTPUT
from compression.quantization.activations import quantize_activations
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_weights
from compression.quantization.integer import integer_output, integer_sums


def numpy_codes(values, quantizer, axis=None):
    """Codes minus zero point, int64, from the formula."""
    shape = [1] * values.ndim
    if axis is not None:
        shape[axis] = -1
    scale, zero_point = (each.numpy().reshape(shape) for each in (quantizer.scale, quantizer.zero_point))
    lowest = 1 if quantizer.symmetric else 0
    codes = np.round(values / scale).astype(np.int64) + zero_point
    return np.clip(codes, lowest, 2**quantizer.bits - 1) - zero_point


def numpy_convolution(images, kernels, stride, padding, dilation, groups):
    """A convolution in int64, by loops over kernel positions."""
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    count, _, height, width = padded.shape
    outputs, per_group, size, _ = kernels.shape
    rows = (height - dilation * (size - 1) - 1) // stride + 1
    columns = (width - dilation * (size - 1) - 1) // stride + 1
    result = np.zeros((count, outputs, rows, columns), dtype=np.int64)
    for output in range(outputs):
        first = output // (outputs // groups) * per_group
        for row in range(size):
            for column in range(size):
                top, left = row * dilation, column * dilation
                window = padded[
                    :,
                    first : first + per_group,
                    top : top + rows * stride : stride,
                    left : left + columns * stride : stride,
                ][:, :, :rows, :columns]
                result[:, output] += np.einsum("nchw,c->nhw", window, kernels[output, :, row, column])
    return result


@given(
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    size=st.integers(1, 3),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_convolutions_equal_int64_arithmetic(stride, padding, dilation, groups, size, bits, symmetric, bias):
    torch.manual_seed(bits)
    layer = nn.Conv2d(4, 8, size, stride, padding, dilation, groups, bias)
    images = torch.randn(2, 4, 6, 6)
    model = quantize_activations(quantize_weights(nn.Sequential(layer), AffineSpec(bits, symmetric)), [images])
    quantized = model[0]
    weights = numpy_codes(layer.weight.detach().numpy(), quantized.parametrizations.weight[0], axis=0)
    taken = numpy_codes(images.numpy(), quantized.get_submodule(INPUT))
    expected = numpy_convolution(taken, weights, stride, padding, dilation, groups)
    sums = integer_sums(quantized, images)
    np.testing.assert_array_equal(sums.numpy(), expected)
    # What the layer computes in float32 is, before its outputs are rounded, these integers to the last one, and the
    # bias as one of them.
    scales = (quantized.get_submodule(INPUT).scale * quantized.parametrizations.weight[0].scale).double()
    quantized.get_submodule(OUTPUT).forward = lambda outputs: outputs
    shift = np.round(layer.bias.detach().double().numpy() / scales.numpy())[:, None, None] if bias else 0
    fake = quantized(images).detach().double() / scales[:, None, None]
    np.testing.assert_array_equal(fake.round().numpy(), expected + shift)
    torch.testing.assert_close(integer_output(quantized, images).float(), quantized(images), rtol=1e-5, atol=1e-5)


@given(st.integers(2, 8), st.booleans(), st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_linear_layers_equal_int64_arithmetic(bits, symmetric, features):
    torch.manual_seed(features)
    layer = nn.Linear(features, 3)
    inputs = torch.randn(5, features)
    model = quantize_activations(quantize_weights(nn.Sequential(layer), AffineSpec(bits, symmetric)), [inputs])
    weights = numpy_codes(layer.weight.detach().numpy(), model[0].parametrizations.weight[0], axis=0)
    expected = numpy_codes(inputs.numpy(), model[0].get_submodule(INPUT)) @ weights.T
    np.testing.assert_array_equal(integer_sums(model[0], inputs).numpy(), expected)
    torch.testing.assert_close(integer_output(model[0], inputs).float(), model(inputs), rtol=1e-5, atol=1e-5)


def numpy_transposed_convolution(images, kernels, stride, groups):
    """In int64: each input value adds its kernel to the outputs at its place."""
    count, inputs, height, width = images.shape
    _, per_group, size, _ = kernels.shape
    shape = (count, groups * per_group, (height - 1) * stride + size, (width - 1) * stride + size)
    result = np.zeros(shape, dtype=np.int64)
    for channel in range(inputs):
        first = channel // (inputs // groups) * per_group
        for row in range(height):
            for column in range(width):
                top, left = row * stride, column * stride
                added = images[:, channel, row, column, None, None, None] * kernels[channel]
                result[:, first : first + per_group, top : top + size, left : left + size] += added
    return result


@given(st.integers(1, 2), st.sampled_from([1, 2]), st.integers(1, 3), st.integers(2, 8), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=25)
def test_transposed_convolutions_equal_int64_arithmetic(stride, groups, size, bits, symmetric, bias):
    torch.manual_seed(bits)
    layer = nn.ConvTranspose2d(4, 6, size, stride, groups=groups, bias=bias)
    images = torch.randn(2, 4, 3, 3)
    model = quantize_activations(quantize_weights(nn.Sequential(layer), AffineSpec(bits, symmetric)), [images])
    weight = model[0].parametrizations.weight[0]
    taken = model[0].get_submodule(INPUT)
    sums = numpy_transposed_convolution(
        numpy_codes(images.numpy(), taken),
        numpy_codes(layer.weight.detach().numpy(), weight, axis=1),
        stride,
        groups,
    )
    np.testing.assert_array_equal(integer_sums(model[0], images).numpy(), sums)
    scales = np.concatenate([(taken.scale * weight.scale).double().numpy()] * groups)[:, None, None]
    shift = np.round(layer.bias.detach().double().numpy()[:, None, None] / scales) if bias else 0
    outputs = integer_output(model[0], images)
    np.testing.assert_allclose(outputs.numpy(), (sums + shift) * scales, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(integer_output(model[0], images[0]), outputs[0])


@pytest.mark.parametrize("change", ["float weights", "other scales", "beyond int32"])
def test_a_bias_that_is_no_int32_stays_as_it_is(change):
    torch.manual_seed(0)
    layer, images = nn.Conv2d(4, 8, 3), torch.randn(2, 4, 5, 5)
    if change == "beyond int32":
        layer.weight.data[0] *= 1e-9
    model = nn.Sequential(layer)
    if change != "float weights":
        model = quantize_weights(model, AffineSpec(8, axis=1 if change == "other scales" else 0))
    quantized = quantize_activations(model, [images])
    assert torch.equal(quantized[0].bias, layer.bias)


def test_a_channel_of_zeros_rounds_its_bias_in_the_widest_units():
    layer, images = nn.Conv2d(4, 2, 1), torch.randn(2, 4, 5, 5)
    layer.weight.data[0] = 0
    quantized = quantize_activations(quantize_weights(nn.Sequential(layer), AffineSpec(8)), [images])[0]
    unit = float(quantized.get_submodule(INPUT).scale * quantized.parametrizations.weight[0].scale[1])
    rounded = quantized.bias.detach().double().numpy()
    np.testing.assert_allclose(rounded, np.round(layer.bias.detach().double().numpy() / unit) * unit, rtol=1e-6)


def test_scales_of_input_channels_are_an_error():
    images = torch.randn(2, 4, 5, 5)
    layer = nn.Sequential(nn.Conv2d(4, 8, 3))
    model = quantize_activations(quantize_weights(layer, AffineSpec(8, axis=1)), [images])
    with pytest.raises(ValueError, match="the weight of ParametrizedConv2d has its scales along dimension 1"):
        integer_output(model[0], images)


def test_float_layers_are_an_error():
    weights_only = quantize_weights(nn.Sequential(nn.Linear(2, 2)), AffineSpec())[0]
    with pytest.raises(ValueError, match="the weight of Linear is not quantized"):
        integer_sums(nn.Linear(2, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match="the inputs of ParametrizedLinear are not quantized"):
        integer_sums(weights_only, torch.ones(1, 2))
