"""ONNX graphs made fit for integer kernels: biases in the units of integer sums, scales where these take them."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compression.quantization.integer import LARGEST_INT32

if TYPE_CHECKING:
    import onnx


def fit_to_integer_kernels(model: "onnx.ModelProto", own_weights: bool) -> None:
    """Changes a model of QuantizeLinear and DequantizeLinear nodes so that runtimes compute its layers in integers.

    Args:
        model: As torch exports it; changed in place.
        own_weights: Whether each layer gets weight constants that no other takes.

    Raises:
        ValueError: If a weight has its scales along another dimension than the output channels.
    """
    import onnx

    graph = _Graph(model)
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    for node in model.graph.node:
        if quantized and node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            graph.check_axis(node)
            if own_weights:
                graph.give_own_weight(node)
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

    def give_own_weight(self, node: Any) -> None:
        """Gives a node a weight, with scales and zero points, that no other takes, though it be the same.

        onnxruntime fails to make int8 weights uint8 where two nodes share a constant ("Attempt to replace the existing
        tensor"): it adds the new one once for each. torch shares what is equal, such as zero points.
        """
        chain, name = [], node.input[1]
        while (maker := self.makers.get(name)) is not None and maker.op_type in ("Transpose", "DequantizeLinear"):
            chain.append(maker)
            name = maker.input[0]
        if name not in self.constants or not chain or chain[-1].op_type != "DequantizeLinear":
            return
        taker = node.output[0]
        for each in reversed(chain):
            own = _copy(each, [self._own(name, taker) for name in each.input], f"{each.output[0]}:{taker}")
            self.nodes.append(own)
            self.makers[own.output[0]] = own
        node.input[1] = f"{node.input[1]}:{taker}"

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

    def _own(self, name: str, taker: str) -> str:
        """The name of a copy, for one taker, of a constant or of what a node makes."""
        own = f"{name}:{taker}"
        if name in self.constants:
            self.constants[own] = type(self.constants[name])()
            self.constants[own].CopyFrom(self.constants[name])
            self.constants[own].name = own
        return own

    def finish(self) -> None:
        """Puts the nodes in place that are of use, with their constants, without torch's long tales of their origin."""
        used = {each.name for each in self.graph.output}
        kept: list[Any] = []
        for node in reversed(self.nodes):
            if used.intersection(node.output):
                used.update(node.input)
                kept.insert(0, node)
                del node.metadata_props[:]
        del self.graph.node[:]
        self.graph.node.extend(kept)
        del self.graph.initializer[:]
        self.graph.initializer.extend(each for name, each in self.constants.items() if name in used)


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, [output], name=f"{kind}:{output}", **attributes)


def _copy(node: Any, inputs: list[str], output: str) -> Any:
    own = type(node)()
    own.CopyFrom(node)
    own.input[:], own.output[:], own.name = inputs, [output], f"{node.op_type}:{output}"
    return own


def _attribute(node: Any, name: str) -> int | None:
    return next((each.i for each in node.attribute if each.name == name), None)
