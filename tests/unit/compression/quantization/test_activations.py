import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from random_graphs import draw_network, network_plans
from torch import nn

from compression.layers.weights import INPUT, OUTPUT
from compression.quantization.activations import (
    MeanRange,
    Range,
    quantize_activations,
)
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import FakeQuantize

BATCHES = [torch.tensor([[-1.0, 3.0]]), torch.tensor([[0.5, 1.0]])]


def test_ranges_follow_numpy():
    whole, mean = Range(), MeanRange()
    for batch in BATCHES:
        whole.update(batch)
        mean.update(batch)
    assert (whole.low, whole.high) == (-1, 3)
    assert (mean.low, mean.high) == (np.mean([-1, 0]), np.mean([3, 1]))


def rounded(values, low, high):
    """Asymmetric 8 bits in float64, from the formula."""
    scale = np.float32((high - low) / 255)
    zero_point = np.clip(np.round(-low / scale), 0, 255)
    codes = np.clip(np.round(values.astype(np.float32) / scale) + zero_point, 0, 255)
    return (codes - zero_point) * scale


def test_a_layer_rounds_what_it_takes_in_on_the_calibrated_grid():
    model = nn.Sequential(nn.Linear(2, 3))
    quantized = quantize_activations(model, BATCHES, observer=Range)
    inputs = torch.tensor([[0.3, -0.7], [5.0, -5.0]])
    taken = torch.from_numpy(rounded(inputs.numpy().astype(np.float64), -1, 3)).float()
    torch.testing.assert_close(quantized(inputs), model(taken), rtol=1e-6, atol=1e-6)


def test_a_convolution_rounds_what_it_gives_out():
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    images = torch.randn(4, 1, 3, 3)
    quantized = quantize_activations(model, [images], observer=Range)
    outputs = quantized(images).detach()
    assert len(outputs.unique()) <= 256
    given_out = quantized[0].get_submodule(OUTPUT)
    assert (outputs - model(images)).abs().max() < 3 * (given_out.scale + quantized[0].get_submodule(INPUT).scale)


@given(network_plans)
@settings(deadline=None, max_examples=20)
def test_any_network_keeps_its_outputs_nearly_and_its_flags_and_statistics(plan):
    model, images = draw_network(plan)
    model.train()
    before = copy.deepcopy(model.state_dict())
    quantized = quantize_activations(model, [images], observer=Range)
    assert quantized.training
    for name, tensor in before.items():
        assert torch.equal(tensor, quantized.state_dict()[name]), name
    exact, near = model.eval()(images), quantized.eval()(images)
    assert (near - exact).norm() <= 0.1 * exact.norm() + 0.05
    assert torch.isfinite(near).all()
    near.sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in quantized.parameters())
    quantizers = [module for module in quantized.modules() if isinstance(module, FakeQuantize)]
    assert len(quantizers) == sum(2 if isinstance(m, nn.Conv2d) else isinstance(m, nn.Linear) for m in model.modules())


def test_copies_round_by_their_own_quantizers():
    quantized = quantize_activations(nn.Sequential(nn.Linear(2, 3)), BATCHES)
    copied = copy.deepcopy(quantized)
    inputs = torch.randn(4, 2)
    expected = quantized(inputs)
    copied[0].get_submodule(INPUT).scale.mul_(50)
    assert torch.equal(quantized(inputs), expected)
    assert not torch.equal(copied(inputs), expected)


@pytest.mark.parametrize("observer", [Range, MeanRange])
def test_a_value_that_is_no_number_is_an_error(observer):
    for batches in (
        [torch.tensor([[float("nan"), 1.0]]), BATCHES[0]],
        [BATCHES[0], torch.tensor([[float("nan"), 1.0]])],
    ):
        with pytest.raises(ValueError, match="layer '0': activations span nan to nan"):
            quantize_activations(nn.Sequential(nn.Linear(2, 2)), batches, observer=observer)


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs):
        return self.layer(input=inputs)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, inputs):
        return self.used(inputs)


@pytest.mark.parametrize(
    ("model", "batches", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2)), [], "no calibration batches"),
        (Unused(), BATCHES, "layer 'unused' was not called"),
        (ByKeyword(), BATCHES, "layer 'layer' is called by keyword"),
        (nn.Sequential(nn.Linear(2, 2)), [torch.full((1, 2), float("inf"))], "layer '0': activations span"),
    ],
)
def test_what_can_not_be_calibrated_is_an_error(model, batches, message):
    with pytest.raises(ValueError, match=message):
        quantize_activations(model, batches)


def test_activations_are_not_quantized_twice():
    once = quantize_activations(nn.Sequential(nn.Linear(2, 2)), BATCHES, AffineSpec(4, symmetric=True))
    with pytest.raises(ValueError, match="layer '0': its activations are already quantized"):
        quantize_activations(once, BATCHES)
