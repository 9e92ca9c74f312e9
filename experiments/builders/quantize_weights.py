"""Weights of the parent `original` on grids, a scale for each channel; not trained, BN statistics estimated anew.

Unlike `quantize`, which is the report's: biases and statistics stay float32, and codes are entropy-coded in the file.
"""

from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_weights
from compression.quantization.ranges import least_squares
from experiments.workbench.compressed import original, with_new_statistics
from experiments.workbench.context import setting
from pytest_claims.training.context import Built, Context


def build(context: Context) -> Built:
    """Needs the setting `bits`, 2 to 8. Ranges are those of least squared error."""
    spec = AffineSpec(bits=setting(context, "bits", int), ranges=least_squares)
    return with_new_statistics(quantize_weights(original(context), spec), context)
