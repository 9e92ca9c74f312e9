import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import assert_close, convolutions, effective_kernel
from torch import nn

from compression.low_rank.factorization import full_ranks
from compression.low_rank.svd import factorize_linear, factorize_pointwise, factorize_spatial, singular_values

properties = settings(deadline=None, max_examples=25)
GROUPS = st.integers(1, 3)


def linear_layer(inputs, outputs, bias=True):
    torch.manual_seed(inputs * 31 + outputs)
    return nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)


def dropped_norm(matrices, rank):
    """By Eckart and Young, the least error of matrices that all have a rank."""
    values = np.concatenate([np.linalg.svd(matrix, compute_uv=False)[rank:] for matrix in matrices])
    return np.sqrt((values**2).sum())


@given(st.integers(1, 8), st.integers(1, 8), st.booleans(), st.data())
@properties
def test_a_linear_layers_error_is_the_least_of_its_rank(inputs, outputs, bias, data):
    layer = linear_layer(inputs, outputs, bias)
    rank = data.draw(st.integers(1, min(inputs, outputs)))
    first, second = factorize_linear(layer, rank)
    error = (second.weight @ first.weight - layer.weight).norm().item()
    assert error == pytest.approx(dropped_norm([layer.weight.detach().numpy()], rank), abs=1e-12)
    assert first.weight.shape == (rank, inputs)
    assert first.bias is None
    assert (second.bias is None) == (not bias)


@pytest.mark.parametrize("shape", [(5, 40), (5, 10), (5, 9), (6, 6), (9, 5), (40, 5), (1, 3)])
def test_singular_values_of_wide_and_of_long_matrices_are_numpys(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    values = singular_values(torch.tensor(matrix)).numpy()
    np.testing.assert_allclose(values, np.linalg.svd(matrix, compute_uv=False), rtol=1e-12)


@given(st.integers(1, 8), st.integers(1, 8), st.booleans())
@properties
def test_a_linear_layer_at_full_rank_is_the_dense_one(inputs, outputs, bias):
    layer = linear_layer(inputs, outputs, bias)
    rows = torch.randn(3, inputs, dtype=torch.float64)
    assert_close(factorize_linear(layer, min(inputs, outputs))(rows), layer(rows))


@given(convolutions(st.just((1, 1)), GROUPS), st.data())
@properties
def test_a_pointwise_convolutions_error_is_the_least_of_its_rank_in_each_group(conv, data):
    rank = data.draw(st.integers(1, full_ranks(conv, "svd")[0]))
    factors = factorize_pointwise(conv, rank)
    error = (effective_kernel(factors, conv) - effective_kernel(conv, conv)).norm().item()
    matrices = np.split(conv.weight.detach().numpy()[:, :, 0, 0], conv.groups)
    assert error == pytest.approx(dropped_norm(matrices, rank), abs=1e-12)
    assert factors[0].out_channels == rank * conv.groups


@given(convolutions(st.sampled_from([(3, 3), (2, 3), (1, 3), (3, 1)]), GROUPS), st.data())
@properties
def test_a_spatial_factorizations_error_is_the_least_of_its_rank_in_each_group(conv, data):
    rank = data.draw(st.integers(1, full_ranks(conv, "spatial")[0]))
    factors = factorize_spatial(conv, rank)
    error = (effective_kernel(factors, conv) - effective_kernel(conv, conv)).norm().item()
    groups = np.split(conv.weight.detach().numpy(), conv.groups)
    matrices = [np.einsum("oihw->ihow", group).reshape(group.shape[1] * group.shape[2], -1) for group in groups]
    assert error == pytest.approx(dropped_norm(matrices, rank), abs=1e-12)
    assert [layer.kernel_size for layer in factors] == [(conv.kernel_size[0], 1), (1, conv.kernel_size[1])]


def test_both_factors_have_one_scale():
    first, second = factorize_linear(linear_layer(9, 7), 4)
    torch.testing.assert_close(first.weight.norm(dim=1), second.weight.norm(dim=0), rtol=1e-10, atol=0)
    vertical, horizontal = factorize_spatial(nn.Conv2d(4, 5, 3, dtype=torch.float64), 6)
    lengths = vertical.weight.flatten(1).norm(dim=1), horizontal.weight.transpose(0, 1).flatten(1).norm(dim=1)
    torch.testing.assert_close(*lengths, rtol=1e-10, atol=0)


def test_a_depthwise_convolution_gets_a_vertical_and_a_horizontal_filter_a_channel():
    # Sobel's filter is one column times one row: nothing is lost at rank 1.
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
    with torch.no_grad():
        conv.weight[:] = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 0.0, -1.0]))
    factors = factorize_spatial(conv, 1)
    images = torch.randn(2, 4, 6, 6)
    assert_close(factors(images), conv(images))
    assert sum(parameter.numel() for parameter in factors.parameters()) == 4 * (3 + 3)
