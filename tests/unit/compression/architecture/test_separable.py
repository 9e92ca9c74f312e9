import pytest
import torch
from hypothesis import given, settings
from random_networks import convolutions
from torch import nn

from compression.architecture.separable import depthwise_separable, depthwise_separable_parameters
from compression.cost import multiply_accumulates, parameter_count

properties = settings(deadline=None, max_examples=40)


@given(convolutions())
@properties
def test_depthwise_separable_keeps_output_shapes_and_has_the_count_foretold(conv):
    separable = depthwise_separable(conv)
    images = torch.zeros(2, conv.in_channels, 7, 6, dtype=torch.float64)
    assert separable(images).shape == conv(images).shape
    assert parameter_count(separable) == depthwise_separable_parameters(conv)
    area = conv.kernel_size[0] * conv.kernel_size[1]
    biases = 0 if conv.bias is None else conv.in_channels + conv.out_channels
    assert parameter_count(separable) == conv.in_channels * (area + conv.out_channels) + biases


def test_depthwise_separable_filters_each_channel_alone_then_mixes():
    depthwise, pointwise = depthwise_separable(nn.Conv2d(3, 5, 3, stride=2, padding=1))
    image = torch.randn(1, 3, 6, 6)
    changed = image.clone()
    changed[:, 1] += 1
    difference = (depthwise(changed) - depthwise(image)).abs().amax((0, 2, 3))
    assert difference[1] > 0
    assert difference[[0, 2]].max() == 0
    assert (depthwise.stride, pointwise.stride) == ((2, 2), (1, 1))
    assert (depthwise.groups, pointwise.kernel_size) == (3, (1, 1))


def test_depthwise_separable_costs_the_published_fraction():
    # Howard et al. (2017), section 3.1: 1 / N + 1 / k^2 of the multiply-accumulates.
    conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
    dense = multiply_accumulates(conv, (16, 8, 8))
    separable = multiply_accumulates(depthwise_separable(conv), (16, 8, 8))
    assert separable / dense == pytest.approx(1 / 32 + 1 / 9)


def test_dtype_and_training_flag_are_kept():
    conv = nn.Conv2d(4, 4, 3).double().eval()
    rewritten = depthwise_separable(conv)
    assert {parameter.dtype for parameter in rewritten.parameters()} == {torch.float64}
    assert not any(module.training for module in rewritten.modules())


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_paddings_are_kept(padding):
    conv = nn.Conv2d(4, 6, 3, padding=padding)
    images = torch.zeros(1, 4, 7, 7)
    assert depthwise_separable(conv)(images).shape == conv(images).shape


def test_a_grouped_convolution_is_an_error():
    conv = nn.Conv2d(4, 4, 3, groups=2)
    for attempt in (depthwise_separable, depthwise_separable_parameters):
        with pytest.raises(ValueError, match="has 2 groups"):
            attempt(conv)
