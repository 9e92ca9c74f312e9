"""Quantization-aware training of the parent `original`: its weights are rounded in each pass, and trained through it.

Grids span each channel's weights anew in each pass, with a code for zero; see `compression.quantization.fake`.
"""

from compression.quantization.affine import AffineSpec
from compression.quantization.fake import follow_weights, quantize_weights
from compression.quantization.ranges import min_max
from experiments.workbench.compressed import finetuned, original
from experiments.workbench.context import setting
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import cross_entropy


def build(context: Context) -> Built:
    """Needs the setting `bits`, 2 to 8."""
    spec = AffineSpec(bits=setting(context, "bits", int), symmetric=False)
    return finetuned(follow_weights(quantize_weights(original(context), spec), min_max), context, cross_entropy)
