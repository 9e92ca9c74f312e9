"""Weights of the parent `original` rounded with one scale a tensor, and nothing done about it."""

from dataclasses import replace

from compression.quantization.affine import AffineSpec
from compression.quantization.fake import quantize_weights
from experiments.workbench.compressed import original, writer
from experiments.workbench.context import setting, untrained
from pytest_claims.training.context import Built, Context


def build(context: Context) -> Built:
    """Needs the setting `bits`, 2 to 8. BN statistics stay as they are."""
    model = quantize_weights(original(context), AffineSpec(bits=setting(context, "bits", int), axis=None))
    return replace(untrained(model, context), write=writer(model))
