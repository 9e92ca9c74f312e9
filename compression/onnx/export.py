"""Quantized models as ONNX, with QuantizeLinear and DequantizeLinear nodes that runtimes turn into int8 arithmetic.

    model = quantize_weights(fold_batch_norms(model.eval()), AffineSpec(bits=8))
    model = quantize_activations(model, batches)
    export_onnx(model, images, "model.onnx")                # needs the extra [onnx]
    session = open_session("model.onnx")
    (logits,) = session.run(None, {"input": images.numpy()})

torch exports the model with these nodes in place of its quantizers. Biases are stored as int32 in units of input scale
times weight scale, as integer kernels add them; a bias beyond int32 in these units is added as a float. Codebook
weights become floats.

Exported models compute exactly on every CPU. Activations are uint8. x86 CPUs without VNNI multiply them with int8
weights by VPMADDUBSW, which adds pairs of products in int16 and cuts off what is beyond, as 2 * 255 * 127 is. So
weights are stored as what no kernel of onnxruntime overflows with:

* of 8 bits as uint8, which x86 kernels widen to int16 to add pairs in int32 (VPMADDWD); with VNNI they add in int32
  anyway. The grid is the same: the model computes what the fake-quantized one does.
* of 2 to 7 bits as int8, -64 to 63: 2 * 255 * 64 = 32,640 fits into int16. Without VNNI these kernels are faster than
  those for uint8: ResNet18 takes 13.0 ms for what uint8 does in 16.0 and float32 in 19.0 (AVX2, one thread, 16 images
  of 32 pixels, `benchmarks/int8_latency.py`). So AffineSpec(bits=7) buys time, at the accuracy of 7 bits.

On ARM both are added in int32: by UDOT, SDOT or USMMLA, or by UMLAL after widening. One kernel, for convolutions with
symmetric int8 weights without the dot product (SMULL and SMLAL), adds pairs in int16, with activations shifted to int8:
2 * 128 * 64 fits, too.

No session option is needed. With `signed_weights=True` weights of 8 bits are int8, too. That is right with VNNI and on
ARM with the dot product, and may be faster there. Elsewhere such a file needs `session.x64quantprecision=1`, by which
onnxruntime makes its weights uint8; `open_session` of `compression.onnx.session` sets it.
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
from compression.onnx.graph import fit_to_integer_kernels
from compression.packing.model_file import model_tensors
from compression.quantization.affine import AffineTensor
from compression.quantization.fake import FakeQuantize, bake, freeze
from compression.quantization.integer import with_wide_zeros

if TYPE_CHECKING:
    import onnx


def export_onnx(
    model: nn.Module, example: Tensor, path: str | os.PathLike[str], *, signed_weights: bool = False
) -> int:
    """Writes a model as one ONNX file, its batch size free, input and output called `input` and `output`.

    Args:
        model: With one tensor as input and as output, in evaluation mode; a module in it that is not is exported as if
            it were. Quantized or not: weights must be float32, and activations quantized asymmetrically at 8 bits,
            which is what the nodes can say. With quantized activations, a weight that has several scales must have
            them along its output channels.
        example: An input.
        path: File to write or replace.
        signed_weights: Whether to store weights of 8 bits as int8, a weight used several times as often. Exact with
            VNNI, on ARM with the dot product, and elsewhere in a session of `open_session`.

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
        _replace_quantizers(name, layer, weights.get(name), signed_weights)
    exported = _exported(baked, example)
    fit_to_integer_kernels(exported, own_weights=signed_weights)
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


def _replace_quantizers(name: str, layer: nn.Module, weight: AffineTensor | None, signed: bool) -> None:
    if weight is not None:
        dtype = layer.get_parameter("weight").dtype
        if dtype != torch.float32:
            raise ValueError(f"layer {name!r}: its quantized weight is {dtype}; torch.float32 is needed")
        own_parametrized_class(layer)
        parametrize.register_parametrization(layer, "weight", _Restored(weight, signed))
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
    """Parametrization of a weight: what DequantizeLinear makes of its codes, as uint8 or, shifted to zero, as int8."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, weight: AffineTensor, signed: bool) -> None:
        super().__init__()
        grid = with_wide_zeros(weight)
        shape = () if grid.axis is None else (-1,)
        signed = signed or grid.bits < 8
        dtype, shift = (torch.int8, 2 ** (grid.bits - 1)) if signed else (torch.uint8, 0)
        self.attributes: dict[str, Any] = {} if grid.axis is None else {"axis": grid.axis % weight.codes.ndim}
        self.register_buffer("codes", (weight.codes.to(torch.int16) - shift).to(dtype))
        self.register_buffer("scale", grid.scale.reshape(shape))
        self.register_buffer("zero_point", (grid.zero_point - shift).to(dtype).reshape(shape))

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
