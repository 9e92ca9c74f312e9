"""What kernels for uint8 activations compute on x86 CPUs without VNNI, in NumPy, for the layers of an exported model.

With int8 weights: each two products added in int16, what is beyond cut off (VPMADDUBSW). With uint8 weights: factors
widened to int16, each two products added in int32 (VPMADDWD).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Products:
    """Factors of a layer's integer sums: uint8 (sums, terms) and int8 or uint8 (terms, channels)."""

    layer: str
    codes: NDArray[np.uint8]
    weights: NDArray[np.int8] | NDArray[np.uint8]


def exact_sums(products: Products) -> NDArray[np.int64]:
    return products.codes.astype(np.int64) @ products.weights.astype(np.int64)


def pair_sums(products: Products, order: NDArray[np.intp]) -> NDArray[np.int64]:
    """Sums of pairs of neighbouring terms in a given order; kernels differ in which terms they pair."""
    codes, weights = products.codes[:, order].astype(np.int64), products.weights[order].astype(np.int64)
    if len(order) % 2:
        codes, weights = np.pad(codes, ((0, 0), (0, 1))), np.pad(weights, ((0, 1), (0, 0)))
    limits = np.iinfo(np.int16 if products.weights.dtype == np.int8 else np.int32)
    sums = np.zeros((len(codes), weights.shape[1]), np.int64)
    for first in range(0, len(weights), 2):
        pair = slice(first, first + 2)
        sums += (codes[:, pair] @ weights[pair]).clip(limits.min, limits.max)
    return sums


def layers_products(path, inputs: torch.Tensor) -> Iterator[Products]:
    """Products of each layer whose activations and weights are quantized, one for each group of a convolution."""
    model = onnx.load(path)
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    quantized = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(each, onnx.TensorProto.UINT8, None) for each in quantized)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    values = dict(zip(quantized, session.run(None, {"input": inputs.numpy()}), strict=True))
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            taken, weight = (makers.get(name) for name in node.input[:2])
            transposed = weight is not None and weight.op_type == "Transpose"
            weight = makers[weight.input[0]] if transposed else weight
            if taken is None or weight is None or taken.input[0] not in values or weight.input[0] not in constants:
                continue
            codes, weights = values[taken.input[0]], constants[weight.input[0]]
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            if node.op_type == "Conv":
                yield from _groups(node.name, codes, weights, int(constants[taken.input[2]]), attributes)
            else:
                rows = codes.reshape(-1, codes.shape[-1])
                yield Products(node.name, rows, weights.T if transposed or attributes.get("transB") else weights)


def _groups(name, codes, weights, zero_point, attributes) -> Iterator[Products]:
    """A convolution's products: of windows of the codes, those outside the image being the code of zero."""
    images, filters = (torch.from_numpy(each.copy()).float() for each in (codes, weights))
    dimensions, groups = filters.ndim - 2, attributes.get("group", 1)
    pads = attributes.get("pads", [0] * 2 * dimensions)
    reversed_pads = [pads[dimension + end * dimensions] for dimension in reversed(range(dimensions)) for end in (0, 1)]
    images = torch.nn.functional.pad(images, reversed_pads, value=zero_point)
    if dimensions == 1:
        images, filters = images[..., None], filters[..., None]
    settings = {
        key: (*attributes.get(name, [1] * dimensions), 1)[:2]
        for key, name in (("stride", "strides"), ("dilation", "dilations"))
    }
    windows = torch.nn.functional.unfold(images, filters.shape[2:], **settings)
    for part, rows in zip(filters.chunk(groups), windows.chunk(groups, dim=1), strict=True):
        terms = part.flatten(1).T.numpy().astype(weights.dtype)
        yield Products(name, rows.movedim(1, 2).flatten(0, 1).numpy().astype(np.uint8), terms)
