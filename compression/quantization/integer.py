"""The integer arithmetic that a quantized layer stands for.

    sums = integer_sums(model.conv1, images)            # int64, as int8 hardware accumulates them in int32
    outputs = integer_output(model.conv1, images)       # sums * input scale * weight scale + bias

With codes q and zero points z, y = s_x s_w * sum (q_x - z_x) (q_w - z_w) + bias (Jacob et al., 2018, equation 4).
"""

import copy
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from compression.layers.weights import INPUT, channel_dimension, output_axis, replace_weight
from compression.quantization.affine import AffineTensor, Grid, encode
from compression.quantization.fake import FakeQuantize, FakeQuantizedWeight

LARGEST_INT32: Final = 2**31 - 1


def integer_sums(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the sums of products of integers, exactly.

    Args:
        layer: A convolution or linear layer whose weights and inputs are quantized.
        inputs: float32, what the layer takes.

    Returns:
        int64, of the layer's output's shape, before scaling and bias.

    Raises:
        ValueError: If the layer's weight or inputs are not quantized.
    """
    weight, grid = _quantized_weight(layer), _input_grid(layer)
    plain = copy.deepcopy(layer)
    # Sums of products of 8-bit integers stay far below 2^53, so that float64 adds them without rounding.
    replace_weight(plain, _centred(weight))
    plain.register_parameter("bias", None)
    plain._forward_pre_hooks.clear()
    plain._forward_hooks.clear()
    with torch.no_grad():
        sums: Tensor = plain(_centred(encode(inputs, grid)))
    return sums.to(torch.int64)


def integer_output(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a quantized layer computes before its outputs are rounded; float64, from exact integer sums.

    Raises:
        ValueError: As `integer_sums` and `output_scales`.
    """
    weight, grid = _quantized_weight(layer), _input_grid(layer)
    sums = integer_sums(layer, inputs)
    shape = [1] * sums.ndim
    shape[channel_dimension(layer)] = -1
    scales = (grid.scale.double() * output_scales(layer, weight.grid).double()).reshape(shape)
    bias = getattr(layer, "bias", None)
    return sums * scales + (bias.detach().double().reshape(shape) if bias is not None else 0)


def round_bias(layer: nn.Module) -> None:
    """Round a layer's float32 bias to the int32 that integer kernels add to their sums, in the sums' units.

    It stays where it is beyond int32 in these units, or where there are none: of weights or inputs that are not
    quantized, or of weights with scales along another dimension than the output channels.
    """
    bias, inputs = getattr(layer, "bias", None), getattr(layer, INPUT, None)
    if bias is None or bias.dtype != torch.float32 or not isinstance(inputs, FakeQuantize):
        return
    try:
        weight = _quantized_weight(layer)
        scale = inputs.scale * output_scales(layer, with_wide_zeros(weight))
    except ValueError:
        return
    codes = (bias.detach().double() / scale.double()).round()
    if bool((codes.abs() <= LARGEST_INT32).all()):
        with torch.no_grad():
            bias.copy_(codes.float() * scale)


def with_wide_zeros(weight: AffineTensor) -> Grid:
    """Return the weight's grid, its all-zero channels on the widest of its scales.

    In units of their own scales, which are tiny, biases of such channels would be huge.
    """
    grid = weight.grid
    if grid.axis is None:
        return grid
    _, zero_point = grid.along(weight.codes)
    zeros = (weight.codes == zero_point).movedim(grid.axis, 0).flatten(1).all(dim=1)
    return replace(grid, scale=torch.where(zeros, grid.scale.max(), grid.scale))


def output_scales(layer: nn.Module, grid: Grid) -> Tensor:
    """Return the weight's scale for each output channel, float32, (channels,), or (1,) for one scale.

    Groups of a transposed convolution share the scales of its weight's dimension 1.

    Raises:
        ValueError: If the scales lie along another dimension: an output is then no integer sum times one scale.
    """
    if grid.axis is None:
        return grid.scale
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if grid.axis % weight.ndim != output_axis(layer):
        raise ValueError(
            f"the weight of {type(layer).__name__} has its scales along dimension {grid.axis}; integer sums need them "
            f"along that of the output channels, {output_axis(layer)}"
        )
    return grid.scale.repeat(layer.groups if isinstance(layer, _ConvTransposeNd) else 1)


def _centred(quantized: AffineTensor) -> Tensor:
    _, zero_point = quantized.grid.along(quantized.codes)
    return quantized.codes.double() - zero_point


def _quantized_weight(layer: nn.Module) -> AffineTensor:
    if parametrize.is_parametrized(layer, "weight"):
        quantizer = layer.get_submodule("parametrizations.weight.0")
        if isinstance(quantizer, FakeQuantizedWeight):
            return quantizer.quantized(layer.get_parameter("parametrizations.weight.original"))
    raise ValueError(f"the weight of {type(layer).__name__} is not quantized; quantize_weights does so")


def _input_grid(layer: nn.Module) -> Grid:
    quantizer = getattr(layer, INPUT, None)
    if not isinstance(quantizer, FakeQuantize):
        raise ValueError(f"the inputs of {type(layer).__name__} are not quantized; quantize_activations does so")
    return quantizer.grid
