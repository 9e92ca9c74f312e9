import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.cost import parameter_count
from compression.low_rank import (
    factorize_conv2d,
    factorize_linear,
    factorize_pointwise,
    factorize_to_budget,
    full_ranks,
    low_rank_parameters,
)

properties = settings(deadline=None, max_examples=25)
dtypes = st.sampled_from([torch.float32, torch.float64])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


KERNELS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw, kernels=KERNELS):
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return nn.Conv2d(
        draw(st.integers(1, 6)),
        draw(st.integers(1, 6)),
        draw(kernels),
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        dtype=draw(dtypes),
    )


pointwise_convolutions = convolutions(st.just((1, 1)))
spatial_convolutions = convolutions(st.sampled_from([(3, 3), (1, 3), (2, 2)]))


def linear_layer(inputs, outputs, bias=True, dtype=torch.float64):
    torch.manual_seed(inputs * 31 + outputs)
    return nn.Linear(inputs, outputs, bias=bias, dtype=dtype)


def built_weight(factors):
    """The dense matrix of a factorized linear layer or pointwise convolution."""
    first, second = (layer.weight.detach().flatten(1) for layer in factors)
    return second @ first


def built_kernel(factors):
    inner, core, outer = (layer.weight.detach() for layer in factors)
    return torch.einsum("oa,abhw,bi->oihw", outer[:, :, 0, 0], core, inner[:, :, 0, 0])


def assert_same_outputs(factors, layer, inputs):
    tolerance = TOLERANCE[layer.weight.dtype]
    torch.testing.assert_close(factors(inputs), layer(inputs), rtol=tolerance, atol=10 * tolerance)


@given(st.integers(1, 8), st.integers(1, 8), st.booleans(), dtypes)
@properties
def test_a_linear_layer_at_full_rank_is_the_dense_one(inputs, outputs, bias, dtype):
    layer = linear_layer(inputs, outputs, bias, dtype)
    factors = factorize_linear(layer, min(inputs, outputs))
    assert_same_outputs(factors, layer, torch.randn(3, inputs, dtype=dtype))
    assert factors[0].bias is None
    assert (factors[1].bias is None) == (not bias)


@given(pointwise_convolutions)
@properties
def test_a_pointwise_convolution_at_full_rank_is_the_dense_one(conv):
    factors = factorize_pointwise(conv, *full_ranks(conv))
    assert_same_outputs(factors, conv, torch.randn(2, conv.in_channels, 6, 7, dtype=conv.weight.dtype))


@given(convolutions())
@properties
def test_a_convolution_at_full_ranks_is_the_dense_one(conv):
    area = conv.weight[0, 0].numel()
    ranks = (
        min(conv.out_channels, conv.in_channels * area),
        min(conv.in_channels, conv.out_channels * area),
    )
    factors = factorize_conv2d(conv, ranks)
    assert_same_outputs(factors, conv, torch.randn(2, conv.in_channels, 6, 7, dtype=conv.weight.dtype))


@given(st.integers(1, 8), st.integers(1, 8), st.data())
@properties
def test_a_linear_layers_error_is_that_of_eckart_and_young(inputs, outputs, data):
    layer = linear_layer(inputs, outputs)
    rank = data.draw(st.integers(1, min(inputs, outputs)))
    error = torch.linalg.matrix_norm(built_weight(factorize_linear(layer, rank)) - layer.weight)
    dropped = np.linalg.svd(layer.weight.detach().numpy(), compute_uv=False)[rank:]
    assert error.item() == pytest.approx(np.sqrt((dropped**2).sum()), abs=1e-12)


@given(pointwise_convolutions, st.data())
@properties
def test_a_pointwise_convolutions_error_is_that_of_eckart_and_young(conv, data):
    conv = conv.double()
    rank = data.draw(st.integers(1, full_ranks(conv)[0]))
    matrix = conv.weight.detach().flatten(1)
    error = torch.linalg.matrix_norm(built_weight(factorize_pointwise(conv, rank)) - matrix)
    dropped = np.linalg.svd(matrix.numpy(), compute_uv=False)[rank:]
    assert error.item() == pytest.approx(np.sqrt((dropped**2).sum()), abs=1e-12)


def test_both_factors_have_one_scale():
    first, second = factorize_linear(linear_layer(9, 7), 4)
    torch.testing.assert_close(first.weight.norm(dim=1), second.weight.norm(dim=0), rtol=1e-10, atol=0)


@given(spatial_convolutions, st.data())
@properties
def test_a_kernel_is_the_truncated_hosvd_of_numpy(conv, data):
    conv = conv.double()
    ranks = tuple(data.draw(st.integers(1, full)) for full in full_ranks(conv))
    kernel = conv.weight.detach().numpy()
    unfoldings = (kernel.reshape(kernel.shape[0], -1), kernel.swapaxes(0, 1).reshape(kernel.shape[1], -1))
    bases = [np.linalg.svd(u, full_matrices=False)[0][:, :r] for u, r in zip(unfoldings, ranks, strict=True)]
    projections = [basis @ basis.T for basis in bases]
    expected = np.einsum("po,qi,oihw->pqhw", *projections, kernel)
    built = built_kernel(factorize_conv2d(conv, ranks)).numpy()
    np.testing.assert_allclose(built, expected, atol=1e-10)


def test_iterations_never_enlarge_the_error_and_end_where_neither_basis_can_improve():
    torch.manual_seed(1)
    conv = nn.Conv2d(6, 8, 3, dtype=torch.float64)
    kernel = conv.weight.detach()
    sweeps = [factorize_conv2d(conv, (3, 2), iterations) for iterations in (0, 1, 2, 5, 200)]
    errors = [torch.linalg.vector_norm(built_kernel(factors) - kernel).item() for factors in sweeps]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < errors[0] - 1e-6
    inner, core, outer = (layer.weight.detach().numpy() for layer in sweeps[-1])
    # The best 3 output and 2 input directions, given the other basis, capture no more than the core holds.
    given_inner = np.einsum("oihw,bi->obhw", kernel, inner[:, :, 0, 0]).reshape(8, -1)
    given_outer = np.einsum("oihw,oa->iahw", kernel, outer[:, :, 0, 0]).reshape(6, -1)
    for unfolding, rank in ((given_inner, 3), (given_outer, 2)):
        best = np.linalg.svd(unfolding, compute_uv=False)[:rank]
        assert (best**2).sum() == pytest.approx((core**2).sum(), rel=1e-9)


@given(convolutions(), st.data())
@properties
def test_a_convolutions_count_is_foretold_and_its_output_shape_kept(conv, data):
    ranks = tuple(data.draw(st.integers(1, full)) for full in full_ranks(conv))
    factors = factorize_pointwise(conv, *ranks) if len(ranks) == 1 else factorize_conv2d(conv, ranks)
    assert parameter_count(factors) == low_rank_parameters(conv, *ranks)
    images = torch.zeros(1, conv.in_channels, 6, 7, dtype=conv.weight.dtype)
    assert factors(images).shape == conv(images).shape


@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), st.data())
@properties
def test_a_linear_layers_count_is_foretold(inputs, outputs, bias, data):
    layer = linear_layer(inputs, outputs, bias)
    rank = data.draw(st.integers(1, min(inputs, outputs)))
    assert low_rank_parameters(layer, rank) == parameter_count(factorize_linear(layer, rank))
    assert low_rank_parameters(layer, rank) == rank * (inputs + outputs) + outputs * bias


def test_geometry_lies_with_the_core_and_the_bias_with_the_last():
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, padding_mode="reflect")
    inner, core, outer = factorize_conv2d(conv, (3, 2))
    assert (core.stride, core.padding, core.dilation, core.padding_mode) == ((2, 2), (2, 2), (2, 2), "reflect")
    assert [layer.weight.shape[:2] for layer in (inner, core, outer)] == [(2, 4), (3, 2), (6, 3)]
    assert [layer.bias is None for layer in (inner, core, outer)] == [True, True, False]
    assert torch.equal(outer.bias, conv.bias)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_paddings_are_kept(padding):
    conv = nn.Conv2d(4, 6, 3, padding=padding)
    assert_same_outputs(factorize_conv2d(conv, (6, 4)), conv, torch.randn(1, 4, 7, 7))


def test_flags_are_kept_and_the_layer_is_untouched():
    for layer, factorize in (
        (nn.Linear(5, 4), lambda layer: factorize_linear(layer, 2)),
        (nn.Conv2d(5, 4, 1), lambda layer: factorize_pointwise(layer, 2)),
        (nn.Conv2d(5, 4, 3), lambda layer: factorize_conv2d(layer, (2, 2))),
    ):
        layer.eval()
        layer.weight.requires_grad_(False)
        before = copy.deepcopy(layer.state_dict())
        factors = factorize(layer)
        assert not any(module.training for module in factors.modules())
        assert [p.requires_grad for p in factors.parameters()] == [False] * len(factors) + [True]
        with torch.no_grad():
            for parameter in factors.parameters():
                parameter.zero_()
        assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


def test_factorizing_draws_no_random_number():
    model = small_model()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    factorize_to_budget(model, parameter_count(model) // 2)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: factorize_linear(nn.Linear(5, 4), 0), "rank is 0; from 1 to 4 is possible for Linear"),
        (lambda: factorize_linear(nn.Linear(5, 4), 5), "rank is 5; from 1 to 4"),
        (lambda: factorize_pointwise(nn.Conv2d(5, 4, 1), 5), "rank is 5; from 1 to 4"),
        (lambda: factorize_pointwise(nn.Conv2d(5, 4, 3), 2), r"has a kernel of \(3, 3\); \(1, 1\)"),
        (lambda: factorize_pointwise(nn.Conv2d(4, 4, 1, groups=2), 2), "has 2 groups"),
        (lambda: factorize_conv2d(nn.Conv2d(4, 4, 3, groups=4), (2, 2)), "has 4 groups"),
        (lambda: factorize_conv2d(nn.Conv2d(5, 4, 3), (5, 5)), "r_out is 5; from 1 to 4"),
        (lambda: factorize_conv2d(nn.Conv2d(5, 4, 3), (4, 6)), "r_in is 6; from 1 to 5"),
        (lambda: factorize_conv2d(nn.Conv2d(5, 4, 3), (4, 0)), "r_in is 0"),
        (lambda: low_rank_parameters(nn.Conv2d(5, 4, 3), 2), "takes r_out and r_in"),
        (lambda: low_rank_parameters(nn.Linear(5, 4), 2, 2), "takes rank; got"),
        (lambda: low_rank_parameters(nn.Conv2d(4, 4, 3, groups=2), 2, 2), "has 2 groups"),
    ],
)
def test_an_impossible_factorization_is_an_error(attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt()


def test_a_weight_that_is_not_finite_is_an_error_that_names_the_layer():
    model = small_model()
    with torch.no_grad():
        model[3].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"layer '3': the weight of Conv2d.* not finite"):
        factorize_to_budget(model, parameter_count(model) // 2)


def small_model(channels=(8, 12), features=20):
    return nn.Sequential(
        nn.Conv2d(3, channels[0], 3, padding=1),
        nn.BatchNorm2d(channels[0]),
        nn.ReLU(),
        nn.Conv2d(channels[0], channels[1], 3, padding=1),
        nn.Conv2d(channels[1], channels[1], 3, padding=1, groups=channels[1]),
        nn.Conv2d(channels[1], channels[1], 1, bias=False),
        nn.Flatten(),
        nn.Sequential(nn.Linear(channels[1] * 16, features), nn.ReLU(), nn.Linear(features, 5)),
    )


def count_at(model, share):
    """Parameters at one share, summed layer by layer without the module's own arithmetic."""
    total = parameter_count(model)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            outputs, inputs, *kernel = layer.weight.shape
            area = math.prod(kernel)
            if area == 1:
                rank = max(1, math.floor(share * min(outputs, inputs) + 1e-9))
                low = rank * (outputs + inputs)
            else:
                out_rank = max(1, math.floor(share * min(outputs, inputs * area) + 1e-9))
                in_rank = max(1, math.floor(share * min(inputs, outputs * area) + 1e-9))
                low = in_rank * inputs + in_rank * out_rank * area + out_rank * outputs
            total += min(0, low - layer.weight.numel())
    return total


@given(st.tuples(st.integers(1, 10), st.integers(1, 10)), st.integers(1, 12), st.floats(0, 1.1))
@properties
def test_the_count_is_the_largest_that_one_share_gives_within_the_budget(channels, features, position):
    model = small_model(channels, features)
    fulls = {
        full
        for m in model.modules()
        if isinstance(m, nn.Linear) or getattr(m, "groups", 0) == 1
        for full in full_ranks(m)
    }
    reachable = {count_at(model, rank / full) for full in fulls for rank in range(1, full + 1)}
    smallest = min(reachable)
    budget = smallest + round(position * (parameter_count(model) - smallest))
    built = factorize_to_budget(model, budget)
    assert parameter_count(built) == max(count for count in reachable if count <= budget)
    assert built(torch.zeros(2, 3, 4, 4)).shape == (2, 5)


def test_layers_that_would_not_get_smaller_stay_dense():
    model = small_model()
    built = factorize_to_budget(model, parameter_count(model) // 3)
    assert isinstance(built[3], nn.Sequential)
    assert isinstance(built[4], nn.Conv2d)
    assert parameter_count(built[0]) <= parameter_count(model[0])
    whole = factorize_to_budget(model, parameter_count(model))
    assert str(whole) == str(model)
    assert all(map(torch.equal, whole.parameters(), model.parameters()))
    assert not set(whole.parameters()) & set(model.parameters())


def test_ranks_depend_on_shapes_alone_so_weights_can_be_loaded_into_a_fresh_model():
    trained, fresh = small_model(), small_model()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(torch.rand_like(parameter) * 100)
    budget = parameter_count(trained) // 2
    compressed, rebuilt = factorize_to_budget(trained, budget), factorize_to_budget(fresh, budget)
    rebuilt.load_state_dict(compressed.state_dict())
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(rebuilt.eval()(images), compressed.eval()(images))


def test_skipped_layers_stay_dense():
    model = small_model()
    built = factorize_to_budget(model, 5_100, skip=("3", "7"))
    assert isinstance(built[3], nn.Conv2d)
    assert isinstance(built[7][0], nn.Linear)
    with pytest.raises(ValueError, match="skip names '8'"):
        factorize_to_budget(model, 5_100, skip=("3", "8"))


def test_a_skipped_name_is_no_prefix_of_another_layers():
    model = nn.ModuleDict({"fc": nn.Linear(20, 20), "fc2": nn.Linear(20, 20)})
    built = factorize_to_budget(model, 600, skip=("fc",))
    assert isinstance(built["fc"], nn.Linear)
    assert isinstance(built["fc2"], nn.Sequential)


def test_an_impossible_budget_is_an_error_with_the_smallest_count():
    model = small_model()
    smallest = count_at(model, 0.0)
    assert parameter_count(factorize_to_budget(model, smallest)) == smallest
    with pytest.raises(ValueError, match=f"budget of {smallest - 1} parameters is below {smallest}"):
        factorize_to_budget(model, smallest - 1)


def test_a_model_without_layers_to_factorize_is_judged_by_its_count():
    assert parameter_count(factorize_to_budget(nn.BatchNorm2d(3), 6)) == 6
    with pytest.raises(ValueError, match="budget of 5 parameters is below 6"):
        factorize_to_budget(nn.BatchNorm2d(3), 5)


def test_shared_layers_and_tied_weights_are_counted_as_they_are():
    shared = nn.Linear(20, 20)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    built = factorize_to_budget(model, 300)
    assert built[0] is built[2]
    assert parameter_count(built) == 7 * 40 + 20
    tied = nn.ModuleDict({"a": nn.Linear(20, 20), "b": nn.Linear(20, 20), "c": nn.Linear(20, 20)})
    tied["b"].weight = tied["a"].weight
    built = factorize_to_budget(tied, 700)
    assert built["a"].weight is built["b"].weight
    assert parameter_count(built) == (400 + 20 + 20) + (6 * 40 + 20)


def test_attention_still_computes():
    # It uses the weight of its own kind of Linear, which must not be replaced.
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    built = factorize_to_budget(model, parameter_count(model) * 3 // 4)
    assert built(torch.randn(2, 3, 16)).shape == (2, 3, 16)


def test_a_residual_network_is_cut_in_its_early_stages_alone():
    model = torchvision.models.resnet18(num_classes=11).eval()
    late = ("layer3", "layer4", "fc")
    kept = sum(parameter_count(model.get_submodule(name)) for name in late)
    budget = kept + (parameter_count(model) - kept) // 4
    built = factorize_to_budget(model, budget, skip=late)
    assert 0.97 * (budget - kept) < parameter_count(built) - kept <= budget - kept
    assert all(map(torch.equal, built.layer3.parameters(), model.layer3.parameters()))
    assert isinstance(built.layer2[0].downsample[0], nn.Sequential)
    with torch.no_grad():
        assert built(torch.randn(1, 3, 32, 32)).shape == (1, 11)
