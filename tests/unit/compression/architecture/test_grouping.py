import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import convolutions
from torch import nn

from compression.architecture.grouping import grouped, grouped_parameters
from compression.cost import parameter_count
from compression.layers.replacement import convolution_like

properties = settings(deadline=None, max_examples=40)


@given(convolutions(), st.integers(1, 4))
@properties
def test_grouped_keeps_output_shapes_and_has_the_count_foretold(conv, groups):
    conv = convolution_like(conv, conv.in_channels * groups, conv.out_channels * groups)
    rewritten = grouped(conv, groups)
    images = torch.zeros(2, conv.in_channels, 7, 6, dtype=torch.float64)
    assert rewritten(images).shape == conv(images).shape
    assert rewritten.groups == groups
    assert parameter_count(rewritten) == grouped_parameters(conv, groups)
    biases = 0 if conv.bias is None else conv.out_channels
    assert (parameter_count(rewritten) - biases) * groups == conv.weight.numel()


def test_dtype_and_training_flag_are_kept():
    conv = nn.Conv2d(4, 4, 3).double().eval()
    rewritten = grouped(conv, 2)
    assert {parameter.dtype for parameter in rewritten.parameters()} == {torch.float64}
    assert not rewritten.training


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_paddings_are_kept(padding):
    conv = nn.Conv2d(4, 6, 3, padding=padding)
    images = torch.zeros(1, 4, 7, 7)
    assert grouped(conv, 2)(images).shape == conv(images).shape


def test_a_grouped_convolution_is_an_error():
    conv = nn.Conv2d(4, 4, 3, groups=2)
    for attempt in (grouped, grouped_parameters):
        with pytest.raises(ValueError, match="has 2 groups"):
            attempt(conv, 4)


@pytest.mark.parametrize("groups", [0, -1, 3, 4])
def test_groups_that_do_not_divide_the_channels_are_an_error(groups):
    with pytest.raises(ValueError, match=f"{groups} groups don't divide the 4 input and 6 output channels"):
        grouped(nn.Conv2d(4, 6, 3), groups)
