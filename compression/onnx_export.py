"""Quantized models as ONNX, with QuantizeLinear and DequantizeLinear nodes that runtimes turn into int8 arithmetic.

    model = quantize_weights(fold_batch_norms(model.eval()), AffineSpec(bits=8))
    model = quantize_activations(model, batches)
    export_onnx(model, images, "model.onnx")                # needs the extra [onnx]
    session = onnxruntime.InferenceSession("model.onnx")
    (logits,) = session.run(None, {"input": images.numpy()})

torch exports the float model; the nodes are put around its Conv, ConvTranspose, Gemm and MatMul nodes, each of which
tells the layer that it comes from. Weights are stored as int8, biases as int32 in units of input scale times weight
scale, as integer kernels add them; a bias beyond int32 in these units is added as a float. Codebook weights become
floats.
"""

import ast
import copy
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.atomic_file import replacing
from compression.packing.model_file import model_tensors
from compression.quantization.activations import INPUT, OUTPUT, without_activation_quantizers
from compression.quantization.affine import AffineTensor
from compression.quantization.fake import FakeQuantize, bake, freeze
from compression.quantization.integer import output_scales
from compression.quantization.layers import channel_dimension

if TYPE_CHECKING:
    import onnx

LARGEST_INT32: Final = 2**31 - 1
_SCOPES: Final = "pkg.torch.onnx.name_scopes"


def export_onnx(model: nn.Module, example: Tensor, path: str | os.PathLike[str]) -> int:
    """Writes a model as one ONNX file, its batch size free, input and output called `input` and `output`.

    Args:
        model: With one tensor as input and as output, in evaluation mode; quantized or not. Quantized weights must be
            float32, and activations quantized asymmetrically at 8 bits, which is what the nodes can say.
        example: An input.
        path: File to write or replace.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If the model is in training mode, a quantizer is of another kind, or a quantized layer has no node
            of its own in the exported graph: its BatchNorm was not folded, or it is never called.
        ImportError: If the extra [onnx] is not installed.
        OSError: If the file can't be written.
    """
    if model.training:
        raise ValueError("the model is in training mode; call eval() before exporting it")
    frozen = freeze(model)
    weights = {
        name.rpartition(".")[0]: each for name, each in model_tensors(frozen).items() if isinstance(each, AffineTensor)
    }
    plain, quantizers = without_activation_quantizers(bake(frozen))
    _check_weights(plain, weights)
    _check_activations(quantizers)
    exported = _float_model(plain, example)
    _insert_nodes(exported, plain, weights, quantizers)
    payload = exported.SerializeToString()
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(payload)
    return len(payload)


def _check_weights(model: nn.Module, weights: dict[str, AffineTensor]) -> None:
    for layer in weights:
        dtype = model.get_submodule(layer).get_parameter("weight").dtype
        if dtype != torch.float32:
            raise ValueError(f"layer {layer!r}: its quantized weight is {dtype}; torch.float32 is needed")


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
    exported: "onnx.ModelProto",
    model: nn.Module,
    weights: dict[str, AffineTensor],
    quantizers: dict[tuple[str, str], FakeQuantize],
) -> None:
    graph = _Graph(exported)
    # A layer may have several names, of which quantizers know the first.
    names = {module: name for name, module in model.named_modules()}
    unplaced = {names[model.get_submodule(name)] for name in (*weights, *(name for name, _ in quantizers))}
    for node in list(exported.graph.node):
        name = _layer_name(node, model, names) if node.op_type in _KINDS else None
        if name is None or (name not in weights and (name, INPUT) not in quantizers):
            graph.nodes.append(node)
            continue
        unplaced.discard(name)
        taken, given = quantizers.get((name, INPUT)), quantizers.get((name, OUTPUT))
        bias = None
        if name in weights:
            bias = _store_weight(graph, node, name, model.get_submodule(name), weights[name], taken)
        if taken is not None:
            node.input[0] = graph.rounded(node.input[0], taken)
        graph.add_node(node, bias, given)
    if unplaced:
        raise ValueError(
            f"layers {sorted(unplaced)} are quantized, but have no node of their own in the exported graph; "
            "fold BatchNorm first, and skip layers that are never called"
        )
    graph.finish()


_KINDS: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _layer_name(node: Any, model: nn.Module, names: dict[nn.Module, str]) -> str | None:
    """The name of the module in whose forward pass torch made a node."""
    scopes = next((each.value for each in node.metadata_props if each.key == _SCOPES), "[]")
    path: list[str] = ast.literal_eval(scopes)[:-1]
    return names.get(model.get_submodule(path[-1])) if path else None


def _store_weight(
    graph: "_Graph", node: Any, name: str, layer: nn.Module, weight: AffineTensor, taken: FakeQuantize | None
) -> str | None:
    """Stores a layer's weight and bias; the name of a bias that is to be added to the node's sums, if it is."""
    weight, bias = _with_wide_zeros(weight), None
    if taken is not None:
        try:
            scale = taken.scale * output_scales(layer, weight.grid)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error
        if len(node.input) == 3:
            bias = graph.store_bias(node, scale, -1 - channel_dimension(layer))
    node.input[1] = graph.weight(f"{name}.weight", _transposed(weight) if node.op_type == "MatMul" else weight)
    return bias


def _with_wide_zeros(weight: AffineTensor) -> AffineTensor:
    """The same values, all-zero channels on the widest of the grid's scales: in units of their own, biases are huge."""
    grid = weight.grid
    if grid.axis is None:
        return weight
    _, zero_point = grid.along(weight.codes)
    zeros = (weight.codes == zero_point).movedim(grid.axis, 0).flatten(1).all(dim=1)
    return AffineTensor(weight.codes, replace(grid, scale=torch.where(zeros, grid.scale.max(), grid.scale)))


def _transposed(weight: AffineTensor) -> AffineTensor:
    axis = None if weight.grid.axis is None else 1 - weight.grid.axis % 2
    return AffineTensor(weight.codes.T.contiguous(), replace(weight.grid, axis=axis))


class _Graph:
    """A graph under change: nodes in order, and what was added, so that equal constants and nodes are there once."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.model = model
        self.nodes: list[Any] = []
        self.known: dict[object, str] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        key = (value.dtype, value.shape, value.tobytes())
        if key not in self.known:
            self.known[key] = self._unique(name)
            self.model.graph.initializer.append(numpy_helper.from_array(value, self.known[key]))
        return self.known[key]

    def add(self, kind: str, inputs: list[str], name: str, **attributes: int) -> str:
        key = (kind, tuple(inputs), tuple(attributes.items()))
        if key not in self.known:
            self.known[key] = self._unique(name)
            self._append(kind, inputs, self.known[key], **attributes)
        return self.known[key]

    def _unique(self, name: str) -> str:
        return f"{name}:{len(self.known)}"

    def _append(self, kind: str, inputs: list[str], output: str, **attributes: int) -> None:
        from onnx import helper

        node = helper.make_node(kind, inputs, [output], name=f"{kind}:{output}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)

    def initializer(self, name: str) -> Tensor:
        from onnx import numpy_helper

        found = next(each for each in self.model.graph.initializer if each.name == name)
        return torch.from_numpy(numpy_helper.to_array(found).copy())

    def weight(self, name: str, quantized: AffineTensor) -> str:
        grid = quantized.grid
        offset = 2 ** (grid.bits - 1)
        codes = (quantized.codes.to(torch.int16) - offset).to(torch.int8).numpy()
        zero_point = (grid.zero_point - offset).to(torch.int8)
        return self._restored(name, codes, grid.scale, zero_point, grid.axis)

    def store_bias(self, node: Any, scale: Tensor, trailing: int) -> str | None:
        """Stores a node's bias in whole units of a scale for each channel; if beyond int32, takes it out as a float.

        A float bias inside the node would not do: onnxruntime rounds it to int32 itself.
        """
        name = node.input[2]
        bias = self.initializer(name)
        codes = (bias.double() / scale.double()).round()
        # Not a number, too, where the scale is zero in float32.
        if bool((codes.abs() <= LARGEST_INT32).all()):
            axis = None if len(scale) == 1 else 0
            node.input[2] = self._restored(name, codes.to(torch.int32).numpy(), scale, None, axis)
            return None
        del node.input[2]
        return self.constant(f"{name}:float", bias.reshape(-1, *[1] * trailing).numpy())

    def _restored(
        self, name: str, codes: NDArray[Any], scale: Tensor, zero_point: Tensor | None, axis: int | None
    ) -> str:
        parameters = {"scale": scale, **({} if zero_point is None else {"zero_point": zero_point})}
        inputs = [self.constant(f"{name}:codes", codes)]
        for kind, values in parameters.items():
            inputs.append(self.constant(f"{name}:{kind}", values.numpy() if axis is not None else _scalar(values)))
        return self.add("DequantizeLinear", inputs, f"{name}:restored", **({} if axis is None else {"axis": axis}))

    def rounded(self, name: str, quantizer: FakeQuantize) -> str:
        """The name of a value rounded to a grid; layers that take the same value on the same grid share it."""
        return self.add("DequantizeLinear", self._codes(name, quantizer), f"{name}:rounded")

    def add_node(self, node: Any, bias: str | None, rounding: FakeQuantize | None) -> None:
        """Adds a node, and what is done to its output, which keeps its name, so that its users take the last result."""
        target = node.output[0]
        self.nodes.append(node)
        if bias is not None:
            node.output[0] = self._unique(f"{target}:sums")
            self._append("Add", [node.output[0], bias], target)
        if rounding is not None:
            last = self.nodes[-1]
            last.output[0] = f"{target}:exact"
            self._append("DequantizeLinear", self._codes(last.output[0], rounding), target)

    def _codes(self, name: str, quantizer: FakeQuantize) -> list[str]:
        """Codes of a value, and the scale and zero point that restore it."""
        parameters = [
            self.constant(f"{name}:scale", _scalar(quantizer.scale)),
            self.constant(f"{name}:zero_point", _scalar(quantizer.zero_point.to(torch.uint8))),
        ]
        return [self.add("QuantizeLinear", [name, *parameters], f"{name}:codes"), *parameters]

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


def _scalar(values: Tensor) -> NDArray[Any]:
    return values.numpy().reshape(())
