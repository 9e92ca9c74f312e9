"""Network slimming of the student without training: pruned, BN statistics estimated anew, weights untouched.

This is the report's protocol. Its code built the optimizer on the first network, so that later epochs moved nothing
of the pruned ones but their BN statistics.
"""

from torch import nn

from compression.layers.batch_norm import reestimate_batch_norm
from compression.pruning.allocation import keep_counts
from compression.pruning.criteria import signed_gamma
from compression.pruning.cut import prune
from compression.pruning.graph import channel_graph
from experiments.models.student_widths import PRUNED_BLOCKS
from experiments.workbench.context import parent_model, training_batches, untrained
from pytest_claims.training.context import Built, Context

_POINTWISE = 3
"""Place in its block of the convolution whose outputs are pruned; the next block's BN ranks them."""
_TRACED_IMAGE = (3, 32, 32)
"""Any size that four poolings leave something of."""


def build(context: Context) -> Built:
    """The budget's epochs are passes over the augmented training images."""
    model = pruned_parent(context)
    reestimate_batch_norm(model, (batch.inputs for batch in training_batches(context)))
    return untrained(model, context)


def pruned_parent(context: Context) -> nn.Module:
    """The parent `original`, cut to the recipe's widths: in each group the channels of largest signed gamma stay."""
    architecture = context.recipe.architecture
    widths = dict(architecture.options).get("widths") if architecture else None
    if not isinstance(widths, tuple):
        raise TypeError(f"recipe: widths are {widths!r}, must be the output channels of each block")
    model = parent_model(context, "original")
    graph = channel_graph(model, _TRACED_IMAGE)
    counts = {f"{block}.{_POINTWISE}": widths[block] for block in PRUNED_BLOCKS}
    return prune(model, graph, keep_counts(graph, signed_gamma(model, graph), counts))
