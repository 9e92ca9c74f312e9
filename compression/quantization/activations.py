"""Static quantization of activations, with ranges observed on calibration batches.

    model = fold_batch_norms(model.eval())
    model = quantize_weights(model, AffineSpec(bits=8))
    model = quantize_activations(model, batches)        # calibrates; asymmetric, one scale a tensor
    logits = model(images)                              # computes what int8 hardware would, in float32

Each convolution and linear layer rounds what it takes in, and each convolution what it gives out: where the ONNX export
puts QuantizeLinear and DequantizeLinear. Where weights are quantized before, biases are rounded, too, to what integer
kernels add: int32, in units of input scale times weight scale. Gradients pass straight through, so that the model can
be trained on; the export rounds the biases that this moves.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from compression.layers.evaluation_mode import evaluation_mode
from compression.layers.weights import INPUT, OUTPUT, weight_layers
from compression.quantization.affine import AffineSpec, grid_of_range
from compression.quantization.fake import FakeQuantize
from compression.quantization.integer import round_bias


@dataclass
class Range:
    """Least and greatest value seen, zero always among them."""

    low: float = 0.0
    high: float = 0.0

    def update(self, values: Tensor) -> None:
        """Widen the range to all values of a batch; one that is not a number makes the range so, too."""
        low, high = torch.aminmax(values.detach())
        # Unlike min and max, clamp keeps what is not a number.
        self.low = float(low.double().clamp(max=self.low))
        self.high = float(high.double().clamp(min=self.high))


@dataclass
class MeanRange(Range):
    """Least and greatest value of a batch, on average over batches, so that one outlier does not stretch the range."""

    batches: int = field(default=0)

    def update(self, values: Tensor) -> None:
        """Take a batch into the averages."""
        low, high = torch.aminmax(values.detach())
        self.batches += 1
        self.low += (min(float(low), 0.0) - self.low) / self.batches
        self.high += (max(float(high), 0.0) - self.high) / self.batches


def quantize_activations(
    model: nn.Module,
    batches: Iterable[Tensor],
    spec: AffineSpec | None = None,
    observer: Callable[[], Range] = MeanRange,
    skip: Iterable[str] = (),
) -> nn.Module:
    """Return a copy of a model that quantizes its activations on grids calibrated with the given batches.

    Args:
        model: Stays as it is; run in evaluation mode. BatchNorm should have been folded.
        batches: Model inputs, at least one.
        spec: Bits and symmetry; one scale a tensor, whatever its axis says. 8 bits asymmetric if None.
        observer: Makes what keeps the range of an activation: `Range` or `MeanRange`.
        skip: Names of layers to leave as they are.

    Raises:
        ValueError: If there is no batch, an activation is not finite, or a layer is never called, called by keyword,
            or quantizes its activations already.
    """
    chosen = spec or AffineSpec(bits=8, symmetric=False)
    per_tensor = AffineSpec(chosen.bits, chosen.symmetric, axis=None)
    quantized = copy.deepcopy(model)
    layers = weight_layers(quantized, skip)
    for name, layer in layers.items():
        if hasattr(layer, INPUT):
            raise ValueError(f"layer {name!r}: its activations are already quantized")
    for name, (taken, given) in observe(quantized, layers, batches, observer).items():
        layer = layers[name]
        device = next(layer.parameters()).device
        attach_activation_quantizer(layer, INPUT, _quantizer(name, taken, per_tensor).to(device))
        if isinstance(layer, _ConvNd):
            attach_activation_quantizer(layer, OUTPUT, _quantizer(name, given, per_tensor).to(device))
        round_bias(layer)
    return quantized


def observe(
    model: nn.Module, layers: dict[str, nn.Module], batches: Iterable[Tensor], observer: Callable[[], Range]
) -> dict[str, tuple[Range, Range]]:
    """Measure the ranges of what layers take and return, over batches, in evaluation mode.

    Raises:
        ValueError: If there is no batch, or a layer is never called, or called by keyword.
    """
    ranges = {name: (observer(), observer()) for name in layers}
    called = set[str]()

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            called.add(name)
            if not inputs:
                raise ValueError(f"layer {name!r} is called by keyword; its input is needed as the first argument")
            ranges[name][0].update(inputs[0])
            ranges[name][1].update(output)

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        run_in_evaluation(model, batches)
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if name not in called:
            raise ValueError(f"layer {name!r} was not called by any batch; skip it if others use its weight")
    return ranges


def run_in_evaluation(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Run a model on batches without gradients, in evaluation mode; its training flags are put back.

    Raises:
        ValueError: If there is no batch.
    """
    seen = 0
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            model(batch)
            seen += 1
    if not seen:
        raise ValueError("no calibration batches; at least one is needed")


def attach_activation_quantizer(layer: nn.Module, role: str, quantizer: FakeQuantize) -> None:
    """Let a layer round its inputs (role `INPUT`) or outputs (`OUTPUT`)."""
    layer.add_module(role, quantizer)
    if role == INPUT:
        layer.register_forward_pre_hook(_round_input)
    else:
        layer.register_forward_hook(_round_output)


def _round_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (layer.get_submodule(INPUT)(inputs[0]), *inputs[1:])


def _round_output(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    rounded: Tensor = layer.get_submodule(OUTPUT)(output)
    return rounded


def _quantizer(name: str, seen: Range, spec: AffineSpec) -> FakeQuantize:
    low, high = (torch.tensor([bound], dtype=torch.float64) for bound in (seen.low, seen.high))
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise ValueError(f"layer {name!r}: activations span {seen.low} to {seen.high}; finite ones are needed")
    if spec.symmetric:
        high = torch.maximum(-low, high)
        low = -high
    return FakeQuantize(grid_of_range(low, high, spec))
