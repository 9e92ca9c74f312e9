"""Biases that make up for the mean error of quantized weights.

    quantized = quantize_weights(model, AffineSpec(bits=4))
    corrected = correct_biases(quantized, reference=model, batches=batches)

Rounding shifts the mean of a layer's outputs; the bias takes that shift back (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019; here with given batches). Layers are corrected in the order they
run, each on what the corrected ones before it give.
"""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compression.layers.weights import channel_dimension, weight_layers
from compression.quantization.activations import run_in_evaluation


def correct_biases(
    quantized: nn.Module, reference: nn.Module, batches: Sequence[Tensor], skip: Iterable[str] = ()
) -> nn.Module:
    """Return a copy of a quantized model whose biases give outputs the reference's mean in each channel.

    Args:
        quantized: Stays as it is. A layer without a bias is given one.
        reference: The float model, with the same layers by name.
        batches: Model inputs, at least one; all are run once for each layer.
        skip: Names of layers to leave as they are.

    Raises:
        ValueError: If the layers' names differ, there is no batch, or a layer is never called.
    """
    corrected = copy.deepcopy(quantized)
    layers, originals = weight_layers(corrected, skip), weight_layers(reference, skip)
    if layers.keys() != originals.keys():
        raise ValueError(f"only one of the models has the layers {sorted(layers.keys() ^ originals.keys())}")
    wanted = output_means(reference, originals, batches)
    for name in wanted:
        shift = wanted[name] - output_means(corrected, {name: layers[name]}, batches)[name]
        _add_to_bias(layers[name], shift)
    return corrected


def output_means(model: nn.Module, layers: dict[str, nn.Module], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return each channel's mean of layers' outputs over batches, float64, in the order in which the layers first ran.

    Outputs are taken as the layer computes them, before they are rounded.

    Raises:
        ValueError: If there is no batch, or a layer is never called.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            channels = output.movedim(channel_dimension(layer), 0).flatten(1).double()
            sums[name] = sums.get(name, torch.zeros(())) + channels.sum(dim=1)
            counts[name] = counts.get(name, 0) + channels.shape[1]

        return layer.register_forward_hook(hook, prepend=True)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        run_in_evaluation(model, batches)
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if name not in sums:
            raise ValueError(f"layer {name!r} was not called by any batch")
    return {name: total / counts[name] for name, total in sums.items()}


def _add_to_bias(layer: nn.Module, shift: Tensor) -> None:
    bias = layer.bias
    if isinstance(bias, nn.Parameter):
        bias.data.copy_(bias.detach().double() + shift)
    else:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        layer.register_parameter("bias", nn.Parameter(shift.to(weight.dtype)))
