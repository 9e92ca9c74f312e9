"""Quantized models as ONNX, with QuantizeLinear and DequantizeLinear nodes that runtimes turn into int8 arithmetic.

    model = quantize_weights(fold_batch_norms(model.eval()), AffineSpec(bits=8))
    model = quantize_activations(model, batches)
    export_onnx(model, images, "model.onnx")                # needs the extra [onnx]
    session = onnxruntime.InferenceSession("model.onnx")
    (logits,) = session.run(None, {"input": images.numpy()})

torch exports the model with these nodes in place of its quantizers. Weights are stored as int8, biases as int32 in
units of input scale times weight scale, as integer kernels add them; a bias beyond int32 in these units is added as a
float. Codebook weights become floats.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.onnx.ops import symbolic

from compression.atomic_file import replacing
from compression.layers.weights import INPUT, OUTPUT, own_parametrized_class, weight_layers
from compression.packing.model_file import model_tensors
from compression.quantization.affine import AffineTensor
from compression.quantization.fake import FakeQuantize, bake, freeze
from compression.quantization.integer import LARGEST_INT32, with_wide_zeros

if TYPE_CHECKING:
    import onnx


def export_onnx(model: nn.Module, example: Tensor, path: str | os.PathLike[str]) -> int:
    """Writes a model as one ONNX file, its batch size free, input and output called `input` and `output`.

    Args:
        model: With one tensor as input and as output, in evaluation mode; a module in it that is not is exported as if
            it were. Quantized or not: weights must be float32, and activations quantized asymmetrically at 8 bits,
            which is what the nodes can say. With quantized activations, a weight that has several scales must have
            them along its output channels.
        example: An input.
        path: File to write or replace.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If the model is in training mode, a module has a name that torch can't export, or a quantizer is of
            another kind.
        ImportError: If the extra [onnx] is not installed.
        OSError: If the file can't be written.
    """
    if model.training:
        raise ValueError("the model is in training mode; call eval() before exporting it")
    _check_names(model)
    frozen = freeze(model)
    weights = {
        name.rpartition(".")[0]: each for name, each in model_tensors(frozen).items() if isinstance(each, AffineTensor)
    }
    baked = bake(frozen).eval()
    for name, layer in weight_layers(baked).items():
        _replace_quantizers(name, layer, weights.get(name))
    exported = _exported(baked, example)
    _fit_to_integer_kernels(exported)
    payload = exported.SerializeToString()
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(payload)
    return len(payload)


def _check_names(model: nn.Module) -> None:
    for name, _ in model.named_modules():
        if not name.isprintable() or '"' in name or "\\" in name:
            raise ValueError(
                f"module {name!r} has a double quote, backslash or control character in its name, which torch can't "
                "export; rename it"
            )


def _replace_quantizers(name: str, layer: nn.Module, weight: AffineTensor | None) -> None:
    if weight is not None:
        dtype = layer.get_parameter("weight").dtype
        if dtype != torch.float32:
            raise ValueError(f"layer {name!r}: its quantized weight is {dtype}; torch.float32 is needed")
        own_parametrized_class(layer)
        parametrize.register_parametrization(layer, "weight", _Restored(weight))
    for role in (INPUT, OUTPUT):
        quantizer = layer._modules.get(role)
        if isinstance(quantizer, FakeQuantize):
            if quantizer.bits != 8 or quantizer.symmetric:
                kind = f"{'symmetric' if quantizer.symmetric else 'asymmetric'} at {quantizer.bits} bits"
                raise ValueError(f"layer {name!r}: {role} is {kind}; asymmetric at 8 is needed")
            setattr(layer, role, _Rounded(quantizer))


class _Rounded(nn.Module):
    """What passes through it, rounded to a quantizer's grid by QuantizeLinear and DequantizeLinear."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, quantizer: FakeQuantize) -> None:
        super().__init__()
        self.register_buffer("scale", quantizer.scale.reshape(()))
        self.register_buffer("zero_point", quantizer.zero_point.to(torch.uint8).reshape(()))

    def forward(self, values: Tensor) -> Tensor:
        parameters = (self.scale, self.zero_point)
        codes = symbolic("QuantizeLinear", (values, *parameters), dtype=torch.uint8, shape=values.shape)
        return symbolic("DequantizeLinear", (codes, *parameters), dtype=torch.float32, shape=values.shape)


class _Restored(nn.Module):
    """Parametrization of a weight: what DequantizeLinear makes of its codes as int8."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, weight: AffineTensor) -> None:
        super().__init__()
        grid = with_wide_zeros(weight)
        shape = () if grid.axis is None else (-1,)
        middle = 2 ** (grid.bits - 1)
        self.attributes: dict[str, Any] = {} if grid.axis is None else {"axis": grid.axis % weight.codes.ndim}
        self.register_buffer("codes", (weight.codes.to(torch.int16) - middle).to(torch.int8))
        self.register_buffer("scale", grid.scale.reshape(shape))
        self.register_buffer("zero_point", (grid.zero_point - middle).to(torch.int8).reshape(shape))

    def forward(self, _: Tensor) -> Tensor:
        parts = (self.codes, self.scale, self.zero_point)
        return symbolic("DequantizeLinear", parts, self.attributes, dtype=torch.float32, shape=self.codes.shape)


def _exported(model: nn.Module, example: Tensor) -> "onnx.ModelProto":
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        return onnx.load(path)


def _fit_to_integer_kernels(model: "onnx.ModelProto") -> None:
    import onnx

    graph = _Graph(model)
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    for node in model.graph.node:
        if quantized and node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            graph.check_axis(node)
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) == 3:
            graph.add_with_bias(node)
        else:
            graph.nodes.append(node)
    graph.finish()
    onnx.checker.check_model(model)


class _Graph:
    """A graph under change: its constants, its nodes in their new order, and which of the old ones makes a value."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.graph = model.graph
        self.constants = {each.name: each for each in model.graph.initializer}
        self.nodes: list[Any] = []
        self.makers = {name: node for node in model.graph.node for name in node.output}

    def check_axis(self, node: Any) -> None:
        """Checks that a weight's scales lie along a node's output channels: onnxruntime takes them as if they did."""
        weight, channels = self.makers.get(node.input[1]), int(node.op_type in ("ConvTranspose", "MatMul"))
        if node.op_type == "Gemm" and not _attribute(node, "transB"):
            channels = 1
        if weight is not None and weight.op_type == "Transpose":
            weight, channels = self.makers.get(weight.input[0]), 1 - channels
        if weight is None or weight.op_type != "DequantizeLinear":
            return
        axis = _attribute(weight, "axis")
        if axis not in (None, channels):
            name = f".{weight.input[0]}".partition(".parametrizations.")[0][1:]
            raise ValueError(
                f"layer {name!r}: its weight has its scales along dimension {axis}; integer sums need them along that "
                f"of the output channels, {channels}"
            )

    def add_with_bias(self, node: Any) -> None:
        """Adds a node, the bias of integer sums as int32 in whole units of them, or, if beyond that, added as a float.

        A float bias inside the node would not do: onnxruntime rounds it to int32 itself.
        """
        taken_scale, weight_scale = (self._scale(name) for name in node.input[:2])
        bias = self._value(node.input[2])
        self.nodes.append(node)
        if taken_scale is None or taken_scale.ndim or weight_scale is None or bias is None:
            return
        scale = taken_scale * weight_scale
        if scale.ndim:
            # Groups of a transposed convolution share the scales of its weight.
            scale = scale.repeat(len(bias) // len(scale))
        codes = (bias.double() / scale.double()).round()
        target = node.output[0]
        # Not a number, too, where the scale is zero in float32.
        if bool((codes.abs() <= LARGEST_INT32).all()):
            parts = [self._store(f"{target}:bias:codes", codes.int()), self._store(f"{target}:bias:scale", scale)]
            node.input[2] = f"{target}:bias"
            self.nodes.insert(
                -1, _node("DequantizeLinear", parts, node.input[2], **({"axis": 0} if scale.ndim else {}))
            )
        else:
            del node.input[2]
            node.output[0] = f"{target}:sums"
            trailing = len(self.constants[self.makers[node.input[1]].input[0]].dims) - 2
            addend = self._store(f"{target}:bias", bias.reshape(-1, *[1] * trailing))
            self.nodes.append(_node("Add", [node.output[0], addend], target))

    def _scale(self, name: str) -> Tensor | None:
        """The scale of a value that DequantizeLinear makes."""
        maker = self.makers.get(name)
        return self._value(maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None

    def _value(self, name: str) -> Tensor | None:
        from onnx import numpy_helper

        constant = self.constants.get(name)
        return None if constant is None else torch.from_numpy(numpy_helper.to_array(constant).copy())

    def _store(self, name: str, value: Tensor) -> str:
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(value.numpy(), name)
        return name

    def finish(self) -> None:
        """Puts the nodes in place, with the constants that they take, without torch's long tales of their origin."""
        for node in self.nodes:
            del node.metadata_props[:]
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        del self.graph.initializer[:]
        self.graph.initializer.extend(each for name, each in self.constants.items() if name in used)


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, [output], name=f"{kind}:{output}", **attributes)


def _attribute(node: Any, name: str) -> int | None:
    return next((each.i for each in node.attribute if each.name == name), None)
