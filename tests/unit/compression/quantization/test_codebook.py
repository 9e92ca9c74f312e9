import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from random_graphs import draw_network, network_plans
from torch import nn

from compression.layers.weights import weight_layers
from compression.quantization.codebook import EXACT_VALUES, CodebookTensor, quantize_codebook, share_weights
from compression.quantization.fake import bake


def squared_error(values, quantized):
    return float((quantized.dequantize().double() - values.double()).square().sum())


def best_partition(values, count):
    """The least squared error over all ways to cut the sorted values into runs."""
    ordered = np.sort(values.astype(np.float64))
    cuts = itertools.combinations(range(1, len(ordered)), min(count, len(ordered)) - 1)
    return min(sum(((run - run.mean()) ** 2).sum() for run in np.split(ordered, cut)) for cut in cuts)


@given(st_numpy.arrays(np.float32, st.integers(1, 9), elements=st.floats(-8, 8, width=32)), st.integers(1, 3))
@settings(deadline=None, max_examples=50)
def test_small_tensors_get_the_optimum_of_all_partitions(values, bits):
    quantized = quantize_codebook(torch.from_numpy(values), bits)
    optimum = best_partition(values, 2**bits)
    assert squared_error(torch.from_numpy(values), quantized) == pytest.approx(optimum, rel=1e-5, abs=1e-9)


@given(
    st_numpy.arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=30)
def test_each_value_takes_its_nearest_centroid(values, bits):
    quantized = quantize_codebook(torch.from_numpy(values), bits)
    centroids = quantized.centroids.double().numpy()
    assert (np.diff(centroids) >= 0).all()
    distances = np.abs(values.astype(np.float64)[:, None] - centroids)
    chosen = distances[np.arange(len(values)), quantized.codes.numpy()]
    np.testing.assert_allclose(chosen, distances.min(axis=1), rtol=1e-5, atol=1e-6 * np.abs(values).max())


def test_as_many_centroids_as_distinct_values_lose_nothing():
    values = torch.tensor([3.0, -1.0, 3.0, 0.5, -1.0])
    assert torch.equal(quantize_codebook(values, 2).dequantize(), values)


@pytest.mark.parametrize("bits", [1, 3, 5])
def test_a_large_tensor_is_a_fixed_point_of_lloyds_algorithm_and_beats_even_spacing(bits):
    values = torch.randn(40, EXACT_VALUES // 4, generator=torch.Generator().manual_seed(0))
    quantized = quantize_codebook(values, bits)
    flat, codes = values.flatten().double(), quantized.codes.flatten().long()
    means = torch.stack([flat[codes == code].mean() for code in range(2**bits)])
    torch.testing.assert_close(quantized.centroids.double(), means, rtol=1e-6, atol=1e-7)
    # The optimum for a Gaussian: Max, "Quantizing for minimum distortion" (1960), table I.
    published = {1: 0.3634, 3: 0.03454, 5: 0.002499}[bits]
    assert squared_error(values, quantized) / values.numel() == pytest.approx(published, rel=0.06)


@given(network_plans, st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_a_centroids_gradient_is_the_sum_over_its_weights(plan, bits):
    model, images = draw_network(plan)
    shared = share_weights(model, bits)
    plain = bake(shared)
    assert torch.equal(shared(images), plain(images))
    for each in (shared, plain):
        each(images).square().sum().backward()
    for name, layer in weight_layers(plain).items():
        quantizer = shared.get_submodule(f"{name}.parametrizations.weight.0")
        centroids = shared.get_parameter(f"{name}.parametrizations.weight.original")
        expected = torch.zeros(len(centroids), dtype=torch.float64)
        for code in range(len(centroids)):
            expected[code] = layer.weight.grad[quantizer.codes == code].double().sum()
        torch.testing.assert_close(centroids.grad.double(), expected, rtol=1e-4, atol=1e-5)


def test_training_moves_centroids_and_keeps_the_sharing():
    model = share_weights(nn.Sequential(nn.Linear(6, 5)), 2)
    before = model[0].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(4, 6)).sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)
    assert len(model[0].weight.unique()) <= 4


def test_the_model_itself_and_earlier_copies_stay_as_they_were():
    model = nn.Sequential(nn.Linear(6, 5))
    shared = share_weights(model, 2)
    again = copy.deepcopy(shared)
    inputs = torch.randn(2, 6)
    expected = shared(inputs)
    bake(shared)
    assert torch.equal(shared(inputs), expected)
    assert torch.equal(again(inputs), expected)
    assert isinstance(model[0].weight, nn.Parameter)


def test_layers_with_one_weight_have_one_codebook():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    shared = share_weights(model, 2)
    assert [parameter.shape for parameter in shared.parameters()] == [(4,), (4,)]
    inputs = torch.randn(3, 4)
    assert torch.equal(shared(inputs), bake(shared)(inputs))
    shared(inputs).square().sum().backward()
    torch.optim.SGD(shared.parameters(), 0.1).step()
    assert torch.equal(shared[0].weight, shared[1].weight)
    with pytest.raises(ValueError, match=r"layer '0': its weight is '1\.weight', too, which stays; skip the layer"):
        share_weights(model, 2, skip=["1"])


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range_are_an_error(bits):
    with pytest.raises(ValueError, match=f"bits are {bits}; 1 to 8"):
        quantize_codebook(torch.ones(2), bits)


def test_a_weight_is_not_shared_twice():
    with pytest.raises(ValueError, match=r"layer '0': its weight is already parametrized by \['CodebookWeight'\]"):
        share_weights(share_weights(nn.Sequential(nn.Linear(2, 2)), 2), 2)


@pytest.mark.parametrize(
    ("codes", "centroids", "message"),
    [
        (torch.zeros(2), torch.zeros(1), "codes are torch.float32"),
        (torch.zeros(2, dtype=torch.uint8), torch.zeros(0), "0 centroids; 1 to 4"),
        (torch.zeros(2, dtype=torch.uint8), torch.zeros(5), "5 centroids; 1 to 4"),
        (torch.full((2,), 3, dtype=torch.uint8), torch.zeros(3), "code 3 is beyond the 3 centroids"),
    ],
)
def test_codes_that_do_not_fit_are_an_error(codes, centroids, message):
    with pytest.raises(ValueError, match=message):
        CodebookTensor(codes, centroids, 2)


def test_an_empty_tensor_keeps_its_shape():
    assert quantize_codebook(torch.empty(0, 3), 4).dequantize().shape == (0, 3)


@pytest.mark.parametrize("values", [[-1e30, 1.0, 2.0], [-1e10, 0.1, 0.2], [1e30, 1e-3, 3e-3, 1e-30]])
def test_small_values_beside_a_huge_one_stay_exact(values):
    assert torch.equal(quantize_codebook(torch.tensor(values), 8).dequantize(), torch.tensor(values))
