"""Weights and activations in fewer bits.

* `state_dict`: the report's own method: a whole state dict as 8-bit codes or as 16-bit floats
* `affine`: 2 to 8 bits, per tensor or channel, symmetric or not, over `ranges` by min-max, percentile or least squares
* `codebook`: weights shared by k-means, 1 to 8 bits; centroids can be trained on
* `fake`: quantized weights in a model, for use and for quantization-aware training
* `activations`: activations on calibrated grids; `integer`: the integer arithmetic that this stands for
* `folding`: BatchNorm folded into convolutions; `bias_correction`: biases that make up for rounding
* `mixed_precision`: bits for each layer under a budget of bytes

A trained model that computes what int8 hardware would:

    folded = fold_batch_norms(model.eval())
    quantized = quantize_activations(quantize_weights(folded, AffineSpec(bits=8)), batches)
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.quantization.activations import MeanRange, Range, quantize_activations
    from compression.quantization.affine import AffineSpec, AffineTensor, Grid, quantize_affine
    from compression.quantization.bias_correction import correct_biases
    from compression.quantization.codebook import CodebookTensor, quantize_codebook, share_weights
    from compression.quantization.fake import bake, follow_weights, freeze, quantize_each, quantize_weights
    from compression.quantization.folding import fold_batch_norms
    from compression.quantization.integer import integer_output, integer_sums
    from compression.quantization.mixed_precision import Choice, choose_bits, layer_choices
    from compression.quantization.ranges import least_squares, min_max, percentile
    from compression.quantization.state_dict import (
        QuantizedTensor,
        dequantize,
        dequantize_state_dict,
        quantize,
        quantize_state_dict,
        relative_error,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "activations": "MeanRange Range quantize_activations",
            "affine": "AffineSpec AffineTensor Grid quantize_affine",
            "bias_correction": "correct_biases",
            "codebook": "CodebookTensor quantize_codebook share_weights",
            "fake": "bake follow_weights freeze quantize_each quantize_weights",
            "folding": "fold_batch_norms",
            "integer": "integer_output integer_sums",
            "mixed_precision": "Choice choose_bits layer_choices",
            "ranges": "least_squares min_max percentile",
            "state_dict": "QuantizedTensor dequantize dequantize_state_dict quantize quantize_state_dict "
            "relative_error",
        },
    )

__all__ = [
    "AffineSpec",
    "AffineTensor",
    "Choice",
    "CodebookTensor",
    "Grid",
    "MeanRange",
    "QuantizedTensor",
    "Range",
    "bake",
    "choose_bits",
    "correct_biases",
    "dequantize",
    "dequantize_state_dict",
    "fold_batch_norms",
    "follow_weights",
    "freeze",
    "integer_output",
    "integer_sums",
    "layer_choices",
    "least_squares",
    "min_max",
    "percentile",
    "quantize",
    "quantize_activations",
    "quantize_affine",
    "quantize_codebook",
    "quantize_each",
    "quantize_state_dict",
    "quantize_weights",
    "relative_error",
    "share_weights",
]
