import collections
import copy
import functools
import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pair_sums import exact_sums, layers_products, pair_sums
from random_graphs import draw_network, network_plans
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry
from torchvision.models import resnet18

from compression.layers.weights import INPUT
from compression.onnx.export import export_onnx
from compression.onnx.session import open_session
from compression.quantization.activations import quantize_activations
from compression.quantization.affine import AffineSpec
from compression.quantization.codebook import share_weights
from compression.quantization.fake import quantize_weights
from compression.quantization.folding import fold_batch_norms
from compression.quantization.integer import integer_output
from experiments.models import student

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def operators_translated_once():
    """torch translates all its operators anew for each export, which is more than half of the time that one takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


def run(path, inputs, optimized=True, precise=False):
    """What onnxruntime computes; `precise` is the option by which it has int8 weights made uint8 without VNNI."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return compute(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), inputs)


def compute(session, inputs):
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


SESSIONS = [(False, False), (True, False), (True, True)]


def count_nodes(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def with_all_kinds_of_layers(network):
    """A transposed convolution before a network, in it a channel of zeros, and after it a layer called twice."""
    network.stem.weight.data[1] = 0
    shared = nn.Linear(5, 5)
    return nn.Sequential(nn.ConvTranspose2d(3, 3, 2, groups=3), network, shared, nn.ReLU(), shared).eval()


def assert_no_pair_overflows(path, inputs):
    """Sums of pairs as x86 CPUs without VNNI add them are the exact ones, in any of some orders of the terms."""
    layers = list(layers_products(path, inputs))
    assert layers
    for layer in layers:
        count = len(layer.weights)
        for order in (np.arange(count), np.random.default_rng(0).permutation(count)):
            np.testing.assert_array_equal(pair_sums(layer, order), exact_sums(layer), layer.layer)


@given(network_plans, st.integers(2, 8), st.booleans())
@settings(deadline=None, max_examples=5)
def test_any_quantized_network_computes_nearly_the_same(tmp_path_factory, plan, bits, symmetric):
    network, images = draw_network(plan)
    model = with_all_kinds_of_layers(network)
    model = quantize_weights(fold_batch_norms(model), AffineSpec(bits, symmetric))
    model = quantize_activations(model, [images])
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export_onnx(model, images, path) == path.stat().st_size
    expected = model(images).detach()
    # A value at the edge of two codes may be rounded to the other one, as sums are taken in another order.
    step = max(float(layer.scale) for name, layer in model.named_modules() if "quantizer" in name)
    for optimized, precise in SESSIONS:
        assert (run(path, images, optimized, precise) - expected).abs().max() <= 4 * step
    assert run(path, images[:1]).shape == (1, 5)
    assert_no_pair_overflows(path, 1e6 * torch.randn(images.shape).sign())
    assert_no_pair_overflows(path, images)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    torch.manual_seed(0)
    inputs = torch.randn(64, 20)
    model = quantize_activations(quantize_weights(nn.Sequential(nn.Linear(20, 6)), AffineSpec(8)), [inputs]).eval()
    path = tmp_path_factory.mktemp("linear") / "model.onnx"
    export_onnx(model, inputs, path)
    return model, inputs, path


def test_int8_kernels_give_the_integer_sums(linear):
    model, inputs, path = linear
    layer = model[0]
    scale = (layer.get_submodule(INPUT).scale * layer.parametrizations.weight[0].scale).double()
    # The bias is rounded to whole units of the sums' scale; nothing else is.
    bias = layer.bias.detach().double()
    expected = integer_output(layer, inputs) - bias + (bias / scale).round() * scale
    for precise in (False, True):
        torch.testing.assert_close(run(path, inputs, precise=precise).double(), expected, rtol=1e-6, atol=1e-6)


def test_weights_are_stored_as_bytes_with_nodes_around_each_layer(linear):
    _, _, path = linear
    graph = onnx.load(path).graph
    assert count_nodes(path)["QuantizeLinear"] == 1
    assert count_nodes(path)["DequantizeLinear"] == 3
    stored = [each for each in graph.initializer if "weight.0.codes" in each.name]
    assert [each.data_type for each in stored] == [onnx.TensorProto.UINT8]
    assert not [each for each in graph.initializer if np.prod(each.dims) == 120 and each.data_type == 1]


class Together(nn.Module):
    """Modules side by side, so that one export does for all: each takes the first of the inputs, in a shape of its own.

    Takes (batch, 192) and gives all outputs in a row.
    """

    def __init__(self, modules, shapes):
        super().__init__()
        self.parts, self.shapes = nn.ModuleList(modules), shapes

    def forward(self, inputs):
        taken = (inputs[:, : math.prod(shape)].reshape(-1, *shape) for shape in self.shapes)
        return torch.cat([part(each).flatten(1) for part, each in zip(self.parts, taken, strict=True)], 1)


def layers_of_ones():
    """Layers of all kinds with weights of -1 and 1, a channel each of these alone."""
    torch.manual_seed(0)
    layers = {
        nn.Linear(18, 24): (18,),
        nn.Linear(18, 24, bias=False): (3, 18),
        nn.Conv2d(4, 16, 3): (4, 4, 4),
        nn.Conv2d(16, 16, 1): (16, 2, 2),
        nn.Conv2d(8, 16, 3, groups=2, padding=1): (8, 4, 4),
        nn.Conv2d(16, 16, 2, groups=16): (16, 3, 3),
    }
    for layer in layers:
        layer.weight.data = torch.randn(layer.weight.shape).sign()
        layer.weight.data[0], layer.weight.data[1] = 1, -1
    return Together(layers, list(layers.values())).eval()


@pytest.fixture(scope="module")
def outermost(tmp_path_factory):
    """A model whose codes are all outermost for inputs of -1 and 1, and its files: as by default, and signed."""
    inputs = torch.randn(8, 192).sign()
    model = quantize_weights(layers_of_ones(), AffineSpec(8, symmetric=False, axis=None))
    model = quantize_activations(model, [inputs])
    folder = tmp_path_factory.mktemp("outermost")
    export_onnx(model, inputs, folder / "model.onnx")
    export_onnx(model, inputs, folder / "signed.onnx", signed_weights=True)
    return model, folder / "model.onnx", folder / "signed.onnx"


@given(arrays(np.float32, (2, 192), elements=st.sampled_from([-1, 1])))
@example(np.full((2, 192), 1, np.float32))
@example(np.full((2, 192), -1, np.float32))
@settings(deadline=None, max_examples=10)
def test_the_outermost_codes_overflow_no_kernel(outermost, values):
    model, default, signed = outermost
    inputs = torch.from_numpy(values)
    expected = model(inputs).detach()
    results = [run(default, inputs, precise=precise) for precise in (False, True)]
    for each in (*results, compute(open_session(signed, threads=1), inputs)):
        torch.testing.assert_close(each, expected, rtol=1e-6, atol=1e-5)
    assert_no_pair_overflows(default, inputs)


def test_pairs_of_the_outermost_codes_overflow_int16_with_weights_of_8_signed_bits(outermost):
    _, _, signed = outermost
    saturated = 0
    for layer in layers_products(signed, torch.ones(2, 192)):
        count = len(layer.weights)
        assert layer.weights.dtype == np.int8
        outermost_sums = np.ix_((layer.codes == 255).all(1), (layer.weights == 127).all(0))
        sums, exact = pair_sums(layer, np.arange(count))[outermost_sums], exact_sums(layer)[outermost_sums]
        assert (sums == count // 2 * 32767 + count % 2 * 255 * 127).all()
        assert (exact == count * 255 * 127).all()
        saturated += sums.size
    assert saturated > 0


def test_weights_of_7_bits_are_stored_as_int8_and_overflow_no_kernel(tmp_path):
    path, inputs = tmp_path / "model.onnx", torch.randn(8, 192).sign()
    model = quantize_weights(layers_of_ones(), AffineSpec(7, symmetric=False, axis=None))
    assert_same_in_onnxruntime(quantize_activations(model, [inputs]), inputs, path)
    for outermost_inputs in (inputs, torch.ones(2, 192), -torch.ones(2, 192)):
        assert_no_pair_overflows(path, outermost_inputs)
    layers = list(layers_products(path, inputs))
    assert {each.weights.dtype for each in layers} == {np.dtype(np.int8)}
    assert (min(each.weights.min() for each in layers), max(each.weights.max() for each in layers)) == (-64, 63)


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, groups=4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 15 * 15, 5),
    )


def prototypes(count, generator):
    """Noisy images of 5 classes, 32 pixels wide, and their classes."""
    centres = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 5, (count,), generator=generator)
    noise = torch.randn(count, 3, 32, 32, generator=generator)
    return nn.functional.interpolate(centres[labels], scale_factor=4) + 1.5 * noise, labels


def trained(model, steps, generator):
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.momentum = 0.5  # to follow so few steps
    for _ in range(steps):
        images, labels = prototypes(32, generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(
    ("build", "steps"),
    [(small_network, 20), (lambda: student.build(5), 40), (lambda: resnet18(num_classes=5), 12)],
    ids=["small", "student", "resnet18"],
)
def test_top_1_of_a_trained_network_is_within_a_tenth_of_a_point(tmp_path, build, steps):
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = trained(build(), steps, generator)
    images, labels = prototypes(1000, generator)
    model = quantized(model, images[:100])
    export_onnx(model, images[:2], tmp_path / "model.onnx")
    with torch.no_grad():
        logits = torch.cat([model(each) for each in images.split(250)])
    fake = (logits.argmax(1) == labels).double().mean().item()
    assert fake > 0.6
    for precise in (False, True):
        computed = run(tmp_path / "model.onnx", images, precise=precise)
        assert abs((computed.argmax(1) == labels).double().mean().item() - fake) <= 0.001
        # But for floats' rounding next to a step, all integers are the same.
        assert (computed - logits).std() <= 0.02 * logits.std()


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


def quantized(model, inputs, spec=None):
    model = fold_batch_norms(model.eval())
    return quantize_activations(quantize_weights(model, spec or AffineSpec(8)), [inputs])


def assert_same_in_onnxruntime(model, inputs, path):
    """Fake quantization and onnxruntime, optimized or not, agree but for a rare step of the last rounding."""
    export_onnx(model, inputs, path)
    expected = model(inputs).detach()
    step = max(float(layer.scale) for name, layer in model.named_modules() if "quantizer" in name)
    for optimized, precise in SESSIONS:
        assert (run(path, inputs, optimized, precise) - expected).abs().max() <= 1.01 * step


def masked_convolution():
    layer = nn.Conv2d(3, 3, 3)
    layer.weight.data[1] = 0
    return nn.Sequential(layer)


def convolution_of_small_gammas():
    norm = nn.BatchNorm2d(3)
    norm.weight.data = torch.tensor([1, 1e-9, 0])
    return nn.Sequential(nn.Conv2d(3, 3, 3), norm)


def linear_with_rows_times(factor):
    layer = nn.Linear(8, 3)
    layer.weight.data[1:] *= factor
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (masked_convolution, (8, 3, 6, 6)),
        (convolution_of_small_gammas, (8, 3, 6, 6)),
        (lambda: linear_with_rows_times(0), (8, 8)),
        (lambda: linear_with_rows_times(1e-9), (8, 8)),
    ],
)
def test_channels_of_weights_near_zero_keep_their_biases(tmp_path, build, shape):
    torch.manual_seed(0)
    model = build()
    (model[1] if len(model) == 2 else model[0]).bias.data = torch.tensor([0.1, 1.0, -0.7])
    inputs = torch.randn(shape)
    assert_same_in_onnxruntime(quantized(model, inputs), inputs, tmp_path / "model.onnx")


def test_a_masked_layers_bias_is_still_stored_as_an_integer(tmp_path):
    images = torch.randn(8, 3, 6, 6)
    export_onnx(quantized(masked_convolution(), images), images, tmp_path / "model.onnx")
    assert "Add" not in count_nodes(tmp_path / "model.onnx")


def test_linear_layers_on_more_than_two_dimensions_are_quantized(tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(4, 6, 8)
    model = quantized(nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 7, bias=False)), inputs)
    assert_same_in_onnxruntime(model, inputs, tmp_path / "model.onnx")
    counts = count_nodes(tmp_path / "model.onnx")
    assert (counts["QuantizeLinear"], counts["DequantizeLinear"]) == (2, 4)
    stored = onnx.load(tmp_path / "model.onnx").graph.initializer
    assert {tuple(each.dims) for each in stored if "codes" in each.name} == {(5, 8), (7, 5)}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, inputs):
        return self.again(self.second(torch.relu(self.first(inputs))))


def equal_layers():
    first = nn.Linear(4, 4)
    return nn.Sequential(first, nn.ReLU(), copy.deepcopy(first))


@pytest.mark.parametrize("shape", [(9, 4), (9, 3, 4)])
@pytest.mark.parametrize("build", [Tied, equal_layers], ids=["tied", "equal"])
def test_layers_of_one_weight_are_quantized_each(tmp_path, build, shape):
    torch.manual_seed(0)
    inputs = torch.randn(shape)
    model = quantized(build(), inputs)
    assert_same_in_onnxruntime(model, inputs, tmp_path / "model.onnx")
    layers = sum("quantizer" in name for name, _ in model.named_modules())
    assert count_nodes(tmp_path / "model.onnx")["QuantizeLinear"] >= layers


def equal_convolutions():
    """Two layers of equal zero points, which torch stores once."""
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))


@pytest.mark.parametrize("spec", [AffineSpec(8), AffineSpec(8, axis=None)], ids=["channels", "tensor"])
def test_layers_that_share_constants_can_have_signed_weights(tmp_path, spec):
    torch.manual_seed(0)
    inputs, path = torch.randn(9, 36), tmp_path / "model.onnx"
    model = Together([Tied(), Tied(), equal_convolutions()], [(4,), (3, 4), (4, 3, 3)])
    model = quantized(model, inputs, spec)
    export_onnx(model, inputs, path, signed_weights=True)
    codes = [each for each in onnx.load(path).graph.initializer if "weight.0.codes" in each.name]
    assert [each.data_type for each in codes] == [onnx.TensorProto.INT8] * (3 + 3 + 2)
    result = compute(open_session(path, threads=1), inputs)
    torch.testing.assert_close(result, model(inputs).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(4, 8, 3, groups=2),
        nn.ConvTranspose1d(4, 8, 2, 2),
        nn.Conv1d(4, 8, 2, padding_mode="circular"),
    ],
)
def test_other_convolutions_are_exported(tmp_path, layer):
    torch.manual_seed(0)
    inputs = torch.randn(3, 4, *[5] * len(layer.kernel_size))
    assert_same_in_onnxruntime(quantized(nn.Sequential(layer), inputs), inputs, tmp_path / "model.onnx")


class Standardized(nn.Conv2d):
    def forward(self, images):
        deviations = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(images, deviations / self.weight.std((1, 2, 3), keepdim=True), self.bias)


class Rectified(nn.Conv2d):
    def forward(self, images):
        return super().forward(images).relu()


class Tripled(nn.Linear):
    def forward(self, inputs):
        return nn.functional.linear(inputs, self.weight * 3, self.bias)


class Adapted(nn.Linear):
    def __init__(self):
        super().__init__(6, 6)
        self.first, self.second = nn.Parameter(torch.randn(6, 2)), nn.Parameter(torch.randn(2, 6))

    def forward(self, inputs):
        return super().forward(inputs) + inputs @ self.first @ self.second


class Before(Adapted):
    def forward(self, inputs):
        return super(Adapted, self).forward(inputs @ self.first @ self.second)


SUBCLASSES = [
    pytest.param(lambda: Standardized(4, 8, 3), (2, 4, 5, 5), id="standardized"),
    pytest.param(lambda: Rectified(4, 8, 3), (2, 4, 5, 5), id="rectified"),
    pytest.param(lambda: Tripled(6, 4), (3, 6), id="tripled"),
    pytest.param(Adapted, (3, 6), id="adapted"),
    pytest.param(Adapted, (3, 5, 6), id="adapted-3d"),
    pytest.param(Before, (3, 6), id="before"),
]


@pytest.mark.parametrize(("build", "shape"), SUBCLASSES)
def test_layers_that_compute_with_their_weight_are_exported_as_they_compute(tmp_path, build, shape):
    torch.manual_seed(0)
    inputs = torch.randn(shape)
    weights_only = quantize_weights(nn.Sequential(build()).eval(), AffineSpec(8))
    export_onnx(weights_only, inputs, tmp_path / "model.onnx")
    expected = weights_only(inputs).detach()
    # Optimized, onnxruntime may choose a kernel that rounds what float layers take in.
    result = run(tmp_path / "model.onnx", inputs, optimized=False)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-4)
    assert_same_in_onnxruntime(quantize_activations(weights_only, [inputs]), inputs, tmp_path / "model.onnx")


def test_an_attention_that_reads_its_layers_weight_is_exported(tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(3, 5, 8)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).eval()
    model = quantize_weights(model, AffineSpec(8))
    model = quantize_activations(model, [inputs], skip=["layers.0.self_attn.out_proj"])
    assert_same_in_onnxruntime(model, inputs, tmp_path / "model.onnx")


def test_modules_of_unusual_names_are_exported(tmp_path):
    layers = collections.OrderedDict((name, nn.Linear(3, 3)) for name in ("a/b", "a'b", "a b"))
    model = quantize_weights(nn.Sequential(layers).eval(), AffineSpec(8))
    inputs = torch.randn(4, 3)
    export_onnx(model, inputs, tmp_path / "model.onnx")
    torch.testing.assert_close(run(tmp_path / "model.onnx", inputs), model(inputs).detach())


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a\\"])
def test_a_module_of_a_name_that_torch_can_not_export_is_an_error(tmp_path, name):
    model = nn.Sequential(collections.OrderedDict({name: nn.Linear(2, 3)})).eval()
    with pytest.raises(ValueError, match=r"module 'a.*' has a double quote, backslash or control character"):
        export_onnx(model, torch.randn(4, 2), tmp_path / "model.onnx")


def test_a_module_in_training_mode_is_exported_as_in_evaluation_mode(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)).eval()
    inputs = torch.randn(4, 2)
    expected = model(inputs).detach()
    model[1].train()
    export_onnx(model, inputs, tmp_path / "model.onnx")
    torch.testing.assert_close(run(tmp_path / "model.onnx", inputs), expected)
    assert model[1].training


def test_a_norm_that_was_not_folded_is_exported(tmp_path):
    images = torch.randn(2, 4, 5, 5)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    model(10 * images)
    model = quantize_weights(model.eval(), AffineSpec(8))
    export_onnx(model, images, tmp_path / "model.onnx")
    torch.testing.assert_close(run(tmp_path / "model.onnx", images), model(images).detach(), rtol=1e-5, atol=1e-5)


class Transposed(nn.Linear):
    def forward(self, inputs):
        return nn.functional.linear(inputs, self.weight.T, self.bias)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 6)])
def test_scales_along_the_inputs_of_an_integer_sum_are_an_error(tmp_path, shape):
    inputs = torch.randn(shape)
    model = quantized(nn.Sequential(Transposed(6, 6)), inputs)
    with pytest.raises(ValueError, match=r"layer '0': its weight has its scales along dimension 0; .* channels, 1"):
        export_onnx(model, inputs, tmp_path / "model.onnx")
    assert_same_in_onnxruntime(
        quantized(nn.Sequential(Transposed(6, 6)), inputs, AffineSpec(8, axis=1)), inputs, tmp_path / "model.onnx"
    )


def test_weights_that_the_nodes_can_not_say_are_errors_that_name_the_layer(tmp_path):
    images = torch.randn(2, 4, 5, 5)
    model = nn.Sequential(nn.Conv2d(4, 8, 3))
    with pytest.raises(ValueError, match="layer '0': its weight has its scales along dimension 1"):
        export_onnx(quantized(model, images, AffineSpec(8, axis=1)), images, tmp_path / "model.onnx")
    half = quantize_weights(nn.Sequential(nn.Conv2d(4, 8, 3)).eval().half(), AffineSpec(8))
    with pytest.raises(ValueError, match=r"layer '0': its quantized weight is torch.float16"):
        export_onnx(half, images.half(), tmp_path / "model.onnx")
