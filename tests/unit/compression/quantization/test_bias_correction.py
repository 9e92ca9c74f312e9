import pytest
import torch
from hypothesis import given, settings
from random_graphs import draw_network, network_plans
from torch import nn

from compression.layers.weights import weight_layers
from compression.quantization.affine import AffineSpec
from compression.quantization.bias_correction import correct_biases
from compression.quantization.fake import quantize_weights


def channel_means(model, batches):
    """Mean of each channel of each layer's outputs, by recording all of them."""
    outputs = {}
    handles = []
    for name, layer in weight_layers(model).items():
        record = outputs.setdefault(name, [])
        handles.append(layer.register_forward_hook(lambda _, __, output, record=record: record.append(output)))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    means = {}
    for name, record in outputs.items():
        axes = (0, 2, 3) if record[0].ndim == 4 else (0,)
        means[name] = torch.cat(record).double().mean(dim=axes)
    return means


@given(network_plans)
@settings(deadline=None, max_examples=15)
def test_every_layer_gets_the_references_channel_means(plan):
    model, images = draw_network(plan)
    batches = [images, 2 * images[:2]]
    quantized = quantize_weights(model, AffineSpec(3))
    corrected = correct_biases(quantized, model, batches)
    wanted, found, before = (channel_means(each, batches) for each in (model, corrected, quantized))
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-4)
    assert any(not torch.allclose(before[name], wanted[name], atol=1e-4) for name in wanted)


def test_a_layer_alone_is_off_by_the_weights_error_times_the_mean_input():
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    inputs = torch.rand(50, 3)
    quantized = quantize_weights(model, AffineSpec(2))
    corrected = correct_biases(quantized, model, [inputs])
    error = (model[0].weight - quantized[0].weight).double()
    torch.testing.assert_close(corrected[0].bias.double(), error @ inputs.double().mean(dim=0), rtol=1e-4, atol=1e-6)
    assert quantized[0].bias is None


def test_models_of_other_layers_and_no_batches_are_errors():
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"only one of the models has the layers \['1'\]"):
        correct_biases(model, nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), [torch.ones(1, 3)])
    with pytest.raises(ValueError, match="no calibration batches"):
        correct_biases(model, model, [])


@pytest.mark.parametrize("bias", [True, False])
def test_images_without_a_batch_give_the_same_biases(bias):
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=bias))
    images = torch.rand(4, 2, 5, 5)
    quantized = quantize_weights(model, AffineSpec(2))
    one, all_at_once = correct_biases(quantized, model, list(images)), correct_biases(quantized, model, [images])
    torch.testing.assert_close(one[0].bias, all_at_once[0].bias)
