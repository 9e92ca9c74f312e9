"""Quantized models as ONNX, with QuantizeLinear and DequantizeLinear nodes that runtimes turn into int8 arithmetic.

    model = quantize_weights(fold_batch_norms(model.eval()), AffineSpec(bits=8))
    model = quantize_activations(model, batches)
    export_onnx(model, images, "model.onnx")                # needs the extra [onnx]
    session = onnxruntime.InferenceSession("model.onnx")
    (logits,) = session.run(None, {"input": images.numpy()})

torch exports the float model; the nodes are put around its Conv and Gemm nodes, which are known by their weights'
names. Weights are stored as int8, biases as int32 in units of input scale times weight scale, as integer kernels add
them. Codebook weights become floats.
"""

import copy
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compression.atomic_file import replacing
from compression.packing.model_file import model_tensors
from compression.quantization.activations import INPUT, OUTPUT, without_activation_quantizers
from compression.quantization.affine import AffineTensor
from compression.quantization.fake import FakeQuantize, bake, freeze

if TYPE_CHECKING:
    import onnx


def export_onnx(model: nn.Module, example: Tensor, path: str | os.PathLike[str]) -> int:
    """Writes a model as one ONNX file, its batch size free, input and output called `input` and `output`.

    Args:
        model: With one tensor as input and as output, in evaluation mode; quantized or not. Activations must be
            quantized asymmetrically at 8 bits, which is what the nodes can say.
        example: An input.
        path: File to write or replace.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If the model is in training mode, or a quantizer is of another kind.
        ImportError: If the extra [onnx] is not installed.
        OSError: If the file can't be written.
    """
    if model.training:
        raise ValueError("the model is in training mode; call eval() before exporting it")
    frozen = freeze(model)
    weights = {name: each for name, each in model_tensors(frozen).items() if isinstance(each, AffineTensor)}
    plain, quantizers = without_activation_quantizers(bake(frozen))
    _check_activations(quantizers)
    exported = _float_model(plain, example)
    _insert_nodes(exported, weights, quantizers)
    payload = exported.SerializeToString()
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(payload)
    return len(payload)


def _check_activations(quantizers: dict[tuple[str, str], FakeQuantize]) -> None:
    for (layer, role), quantizer in quantizers.items():
        if quantizer.bits != 8 or quantizer.symmetric:
            kind = "symmetric" if quantizer.symmetric else "asymmetric"
            raise ValueError(f"layer {layer!r}: {role} is {kind} at {quantizer.bits} bits; asymmetric at 8 is needed")


def _float_model(model: nn.Module, example: Tensor) -> "onnx.ModelProto":
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        torch.onnx.export(
            copy.deepcopy(model),
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


def _insert_nodes(
    exported: "onnx.ModelProto", weights: dict[str, AffineTensor], quantizers: dict[tuple[str, str], FakeQuantize]
) -> None:
    graph = _Graph(exported)
    for node in list(exported.graph.node):
        weight = next((name for name in node.input[1:2] if name in weights), None)
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or weight is None:
            graph.nodes.append(node)
            continue
        layer = weight.rpartition(".")[0]
        node.input[1] = graph.weight(weight, weights[weight])
        taken, given = quantizers.get((layer, INPUT)), quantizers.get((layer, OUTPUT))
        if taken is not None:
            node.input[0] = graph.rounded(node.input[0], taken)
            if len(node.input) == 3:
                node.input[2] = graph.bias(node.input[2], taken.scale * weights[weight].grid.scale)
        graph.nodes.append(node)
        if given is not None:
            graph.round_output(node, given)
    graph.finish()


class _Graph:
    """A graph under change: nodes in order, and constants by name."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.model = model
        self.nodes: list[Any] = []
        self.rounded_names: dict[tuple[str, float, int], str] = {}

    def constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}:{output}", **attributes))
        return output

    def initializer(self, name: str) -> Any:
        from onnx import numpy_helper

        return numpy_helper.to_array(next(each for each in self.model.graph.initializer if each.name == name))

    def weight(self, name: str, quantized: AffineTensor) -> str:
        grid = quantized.grid
        offset = 2 ** (grid.bits - 1)
        codes = (quantized.codes.to(torch.int16) - offset).to(torch.int8).numpy()
        zero_point = (grid.zero_point - offset).to(torch.int8).numpy()
        axis = grid.axis
        inputs = [
            self.constant(f"{name}:codes", codes),
            self.constant(f"{name}:scale", grid.scale.numpy() if axis is not None else grid.scale.numpy()[0]),
            self.constant(f"{name}:zero_point", zero_point if axis is not None else zero_point[0]),
        ]
        return self.add("DequantizeLinear", inputs, f"{name}:restored", **({} if axis is None else {"axis": axis}))

    def bias(self, name: str, scale: Tensor) -> str:
        codes = (torch.from_numpy(self.initializer(name).copy()).double() / scale.double()).round()
        limit = 2**31 - 1
        inputs = [
            self.constant(f"{name}:codes", codes.clamp(-limit, limit).to(torch.int32).numpy()),
            self.constant(f"{name}:scale", scale.numpy() if len(scale) > 1 else scale.numpy()[0]),
        ]
        return self.add("DequantizeLinear", inputs, f"{name}:restored", **({"axis": 0} if len(scale) > 1 else {}))

    def rounded(self, name: str, quantizer: FakeQuantize) -> str:
        """The name of a value rounded to a grid; layers that take the same value on the same grid share it."""
        scale, zero_point = float(quantizer.scale), int(quantizer.zero_point)
        key = (name, scale, zero_point)
        if key not in self.rounded_names:
            self.rounded_names[key] = self._round(name, quantizer, f"{name}:{len(self.rounded_names)}")
        return self.rounded_names[key]

    def round_output(self, node: Any, quantizer: FakeQuantize) -> None:
        """Lets a node's output keep its name, so that its users take the rounded one."""
        target, node.output[0] = node.output[0], f"{node.output[0]}:exact"
        self._round(node.output[0], quantizer, target, target)

    def _round(self, name: str, quantizer: FakeQuantize, stem: str, target: str | None = None) -> str:
        parameters = [
            self.constant(f"{stem}:scale", quantizer.scale.numpy()[0]),
            self.constant(f"{stem}:zero_point", quantizer.zero_point.to(torch.uint8).numpy()[0]),
        ]
        codes = self.add("QuantizeLinear", [name, *parameters], f"{stem}:codes")
        return self.add("DequantizeLinear", [codes, *parameters], target or f"{stem}:restored")

    def finish(self) -> None:
        """Puts the nodes in place, drops constants that nothing takes any more, and checks the whole."""
        import onnx

        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in node.input}
        kept = [each for each in graph.initializer if each.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        onnx.checker.check_model(self.model)
