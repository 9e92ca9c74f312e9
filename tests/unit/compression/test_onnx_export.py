import collections

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import draw_network, network_plans
from torch import nn

from compression.onnx_export import export_onnx
from compression.quantization.activations import INPUT, quantize_activations
from compression.quantization.affine import AffineSpec
from compression.quantization.codebook import share_weights
from compression.quantization.fake import quantize_weights
from compression.quantization.folding import fold_batch_norms
from compression.quantization.integer import integer_output


def run(path, inputs, optimized=True):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


def count_nodes(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


@given(network_plans, st.integers(2, 8), st.booleans())
@settings(deadline=None, max_examples=5)
def test_any_quantized_network_computes_nearly_the_same(tmp_path_factory, plan, bits, symmetric):
    model, images = draw_network(plan)
    model = quantize_weights(fold_batch_norms(model), AffineSpec(bits, symmetric))
    model = quantize_activations(model, [images])
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export_onnx(model, images, path) == path.stat().st_size
    expected = model(images).detach()
    # A value at the edge of two codes may be rounded to the other one, as sums are taken in another order.
    step = max(float(layer.scale) for name, layer in model.named_modules() if "quantizer" in name)
    assert (run(path, images, optimized=False) - expected).abs().max() <= 4 * step
    assert run(path, images[:1]).shape == (1, 5)


@pytest.fixture
def linear(tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(64, 20)
    model = quantize_activations(quantize_weights(nn.Sequential(nn.Linear(20, 6)), AffineSpec(8)), [inputs]).eval()
    export_onnx(model, inputs, tmp_path / "model.onnx")
    return model, inputs, tmp_path / "model.onnx"


def test_int8_kernels_give_the_integer_sums(linear):
    model, inputs, path = linear
    layer = model[0]
    scale = (layer.get_submodule(INPUT).scale * layer.parametrizations.weight[0].scale).double()
    # The bias is rounded to whole units of the sums' scale; nothing else is.
    bias = layer.bias.detach().double()
    expected = integer_output(layer, inputs) - bias + (bias / scale).round() * scale
    torch.testing.assert_close(run(path, inputs).double(), expected, rtol=1e-6, atol=1e-6)


def test_weights_are_stored_as_bytes_with_nodes_around_each_layer(linear):
    _, _, path = linear
    graph = onnx.load(path).graph
    assert count_nodes(path)["QuantizeLinear"] == 1
    assert count_nodes(path)["DequantizeLinear"] == 3
    stored = [each for each in graph.initializer if each.name.endswith("weight:codes")]
    assert [each.data_type for each in stored] == [onnx.TensorProto.INT8]
    assert not [each for each in graph.initializer if np.prod(each.dims) == 120 and each.data_type == 1]


def prototypes(count, generator, centres):
    labels = torch.randint(0, 5, (count,), generator=generator)
    return centres[labels] + 0.8 * torch.randn(count, 1, 8, 8, generator=generator), labels


def test_top_1_of_a_trained_network_is_within_a_fifth_of_a_point(tmp_path):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    centres = torch.randn(5, 1, 8, 8, generator=generator)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, groups=4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 5),
    )
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        images, labels = prototypes(128, generator, centres)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    images, labels = prototypes(2000, generator, centres)
    quantized = quantize_weights(fold_batch_norms(model.eval()), AffineSpec(8))
    quantized = quantize_activations(quantized, [images[:200]])
    export_onnx(quantized, images[:2], tmp_path / "model.onnx")
    with torch.no_grad():
        fake = (quantized(images).argmax(1) == labels).double().mean().item()
    real = (run(tmp_path / "model.onnx", images).argmax(1) == labels).double().mean().item()
    assert fake > 0.9
    assert abs(real - fake) <= 0.002


def test_float_and_codebook_models_are_exported_as_floats(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(12, 2)).eval()
    images = torch.randn(2, 2, 2, 2)
    for each in (model, share_weights(model, 2)):
        export_onnx(each, images, tmp_path / "model.onnx")
        torch.testing.assert_close(run(tmp_path / "model.onnx", images), each(images).detach(), rtol=1e-5, atol=1e-5)
        assert count_nodes(tmp_path / "model.onnx")["QuantizeLinear"] == 0


def test_what_the_nodes_can_not_say_is_an_error(tmp_path):
    inputs = torch.randn(4, 2)
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="training mode"):
        export_onnx(model, inputs, tmp_path / "model.onnx")
    kinds = {"asymmetric at 4 bits": AffineSpec(4, symmetric=False), "symmetric at 8 bits": AffineSpec(8)}
    for message, spec in kinds.items():
        quantized = quantize_activations(quantize_weights(model, AffineSpec()), [inputs], spec).eval()
        with pytest.raises(ValueError, match=f"layer '0': input_quantizer is {message}; asymmetric at 8 is needed"):
            export_onnx(quantized, inputs, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
