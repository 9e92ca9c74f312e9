import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import draw_network, network_plans
from torch import nn
from torch.nn.utils import parametrize

from compression.layers.weights import weight_layers
from compression.quantization.activations import quantize_activations
from compression.quantization.affine import AffineSpec, fit_grid, quantize_affine
from compression.quantization.codebook import share_weights
from compression.quantization.fake import bake, fake_quantize, follow_weights, freeze, quantize_each, quantize_weights
from compression.quantization.ranges import least_squares, min_max


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("axis", [None, 0])
def test_values_and_gradients_are_torchs_own(bits, axis):
    generator = torch.Generator().manual_seed(bits)
    values = torch.randn(6, 7, generator=generator, requires_grad=True)
    theirs = values.detach().clone().requires_grad_()
    # A grid for half the values' range, so that some are clipped.
    grid = fit_grid(values * 0.5, AffineSpec(bits, symmetric=False, axis=axis))
    weights = torch.randn(6, 7, generator=generator)
    ours = fake_quantize(values, grid)
    if axis is None:
        expected = torch.fake_quantize_per_tensor_affine(theirs, grid.scale, grid.zero_point, 0, 2**bits - 1)
    else:
        expected = torch.fake_quantize_per_channel_affine(theirs, grid.scale, grid.zero_point, 0, 0, 2**bits - 1)
    assert torch.equal(ours, expected)
    (ours * weights).sum().backward()
    (expected * weights).sum().backward()
    assert 0 < (values.grad == 0).sum() < values.numel()
    assert torch.equal(values.grad, theirs.grad)


@given(network_plans, st.integers(2, 8), st.booleans(), st.sampled_from([None, 0]))
@settings(deadline=None, max_examples=25)
def test_a_quantized_model_is_the_model_with_quantized_weights(plan, bits, symmetric, axis):
    model, images = draw_network(plan)
    spec = AffineSpec(bits, symmetric, axis)
    expected = copy.deepcopy(model)
    for layer in weight_layers(expected).values():
        layer.weight.data = quantize_affine(layer.weight, spec).dequantize()
    quantized = quantize_weights(model, spec)
    assert torch.equal(quantized(images), expected(images))
    baked = bake(quantized)
    assert baked.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(baked(images), expected(images))
    # Neither the model nor the quantized one changed with its copies.
    assert torch.equal(quantized(images), expected(images))
    assert not any(parametrize.is_parametrized(layer) for layer in model.modules())


def test_a_transposed_convolution_has_a_scale_for_each_of_its_own_output_channels():
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 2))
    quantized = quantize_weights(model, AffineSpec(4))
    expected = quantize_affine(model[0].weight, AffineSpec(4, axis=1)).dequantize()
    assert len(quantized[0].parametrizations.weight[0].scale) == 5
    assert torch.equal(quantized[0].weight, expected)


def test_training_moves_weights_and_following_grids_move_with_them():
    torch.manual_seed(0)
    model = quantize_weights(nn.Sequential(nn.Linear(8, 4)), AffineSpec(3))
    following = follow_weights(model, min_max)
    inputs, targets = torch.randn(64, 8), torch.randn(64, 4)
    losses = {}
    for name, each in (("fixed", model), ("following", following)):
        optimizer = torch.optim.SGD(each.parameters(), 0.2)
        losses[name] = []
        for _ in range(60):
            loss = (each(inputs) - targets).square().mean()
            losses[name].append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert min(losses[name]) < losses[name][0] * 0.9
    original = following[0].parametrizations.weight.original
    frozen = freeze(following)
    assert torch.equal(frozen[0].weight, quantize_affine(original, AffineSpec(3)).dequantize())
    with torch.no_grad():
        frozen[0].parametrizations.weight.original *= 10
    kept = quantize_affine(original, AffineSpec(3)).grid.scale
    assert torch.equal(frozen[0].parametrizations.weight[0].scale, kept)


def test_each_layer_takes_its_own_spec_and_skipped_ones_stay():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    quantized = quantize_each(model, {"0": AffineSpec(2), "2": AffineSpec(5, ranges=least_squares)})
    assert torch.equal(quantized[0].weight, quantize_affine(model[0].weight, AffineSpec(2)).dequantize())
    assert torch.equal(quantized[1].weight, model[1].weight)
    skipped = quantize_weights(model, AffineSpec(2), skip=["1"])
    assert [parametrize.is_parametrized(layer) for layer in skipped] == [True, False, True]


def test_a_half_precision_model_stays_one():
    model = quantize_weights(nn.Sequential(nn.Linear(4, 4)).bfloat16(), AffineSpec(4))
    assert model(torch.randn(2, 4).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_quantized_model_can_be_cast(dtype):
    inputs = torch.randn(2, 4)
    model = quantize_activations(quantize_weights(nn.Sequential(nn.Linear(4, 4)), AffineSpec(4)), [inputs])
    cast = copy.deepcopy(model).to(dtype)
    assert torch.equal(cast[0].parametrizations.weight[0].scale, model[0].parametrizations.weight[0].scale)
    torch.testing.assert_close(cast(inputs.to(dtype)).float(), model(inputs), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("quantize", [lambda m: quantize_weights(m, AffineSpec(4)), lambda m: share_weights(m, 2)])
def test_baking_keeps_frozen_weights_frozen(quantize):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight.requires_grad_(False)
    baked = bake(quantize(model))
    assert [layer.weight.requires_grad for layer in baked] == [False, True]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda model: quantize_weights(model, AffineSpec(), skip=["absent"]), "layer 'absent', to be skipped"),
        (lambda model: quantize_each(model, {"1": AffineSpec()}), "layer '1' is no convolution or linear layer"),
        (lambda model: quantize_weights(quantize_weights(model, AffineSpec()), AffineSpec()), "layer '0': .* bake it"),
    ],
)
def test_what_can_not_be_quantized_is_an_error_that_names_the_layer(act, message):
    with pytest.raises(ValueError, match=message):
        act(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


def test_a_weight_that_is_not_finite_is_named():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].weight.data[0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"'0\.weight' holds 1 values that are not finite"):
        quantize_weights(model, AffineSpec())


def test_other_parametrizations_of_a_layer_survive_quantizing_and_baking():
    class Doubled(nn.Module):
        def forward(self, bias):
            return 2 * bias

    model = nn.Sequential(nn.Linear(2, 2))
    parametrize.register_parametrization(model[0], "bias", Doubled())
    quantized = quantize_weights(model, AffineSpec())
    baked = bake(quantized)
    inputs = torch.randn(3, 2)
    assert torch.equal(baked(inputs), quantized(inputs))
    assert isinstance(model[0].weight, nn.Parameter)
    assert torch.equal(baked[0].bias, model[0].bias)


@pytest.mark.slow
@given(network_plans, st.sampled_from(["affine", "codebook", "activations"]))
@settings(deadline=None, max_examples=6)
def test_quantized_models_can_be_exported(plan, kind):
    model, images = draw_network(plan)
    quantized = share_weights(model, 3) if kind == "codebook" else quantize_weights(model, AffineSpec(4))
    if kind == "activations":
        quantized = quantize_activations(quantized, [images])
    exported = torch.export.export(quantized, (images,)).module()
    assert torch.equal(exported(images), quantized(images))
