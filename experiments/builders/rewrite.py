"""The parent `original` with its convolutions as cheaper ones; not trained, BN statistics estimated anew."""

from itertools import islice

from torch import nn

from compression.architecture.patch_moments import measure_patch_moments
from compression.architecture.rewriting import (
    Moments,
    Rewriting,
    grouped_convolutions,
    rewrite_grouped,
    rewrite_separable,
    separable_convolutions,
)
from experiments.workbench.compressed import original, with_new_statistics
from experiments.workbench.context import setting, training_batches
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import seed_initialisation

MOMENT_BATCHES = 4
"""Of training images, on which the new layers' outputs are fitted to the old ones'."""


def build(context: Context) -> Built:
    """Needs the settings `groups` (0 for depthwise and pointwise convolutions) and `weights`, `fitted` or `random`."""
    weights, groups = setting(context, "weights", str), setting(context, "groups", int)
    if weights not in ("fitted", "random"):
        raise ValueError(f"operation 'rewrite': its setting 'weights' is {weights!r}, should be 'fitted' or 'random'")
    model = original(context)
    rewriting = _rewritten(model, groups, _moments(model, groups, context) if weights == "fitted" else None)
    if weights == "random":
        seed_initialisation(context.seed)
        for name in rewriting.rewritten:
            _draw_anew(rewriting.model.get_submodule(name))
    return with_new_statistics(rewriting.model, context)


def _moments(model: nn.Module, groups: int, context: Context) -> Moments:
    names = grouped_convolutions(model, groups) if groups else separable_convolutions(model)
    return measure_patch_moments(model, names, (b.inputs for b in islice(training_batches(context), MOMENT_BATCHES)))


def _rewritten(model: nn.Module, groups: int, moments: Moments | None) -> Rewriting:
    return rewrite_grouped(model, groups, moments=moments) if groups else rewrite_separable(model, moments=moments)


def _draw_anew(rewritten: nn.Module) -> None:
    for layer in rewritten.modules():
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
