"""Network slimming of the student without training: pruned, BN statistics estimated anew, weights untouched.

This is the report's protocol. Its code built the optimizer on the first network, so that later epochs moved nothing
of the pruned ones but their BN statistics.
"""

from torch import nn

from compression.batch_norm import reestimate_batch_norm
from compression.pruning import ChannelGroup, prune, select_channels
from experiments.builders.context import Built, Context, budget, parent_model, splits, untrained
from experiments.models.student_widths import PRUNED_BLOCKS
from experiments.training import augmented_batches


def build(context: Context) -> Built:
    """The budget's epochs are passes over the augmented training images."""
    model = pruned_parent(context)
    training, _ = splits(context)
    epochs = range(budget(context).epochs)
    batches = (
        batch.inputs for epoch in epochs for batch in augmented_batches(training, budget(context), context.seed, epoch)
    )
    reestimate_batch_norm(model, batches)
    return untrained(model, context)


def pruned_parent(context: Context) -> nn.Module:
    """The parent `original`, cut to the recipe's widths: in each group the channels of largest signed gamma stay."""
    widths = dict(context.recipe.architecture.options)["widths"]
    if not isinstance(widths, tuple):
        raise TypeError(f"recipe: widths are {widths!r}, must be the output channels of each block")
    counts = [widths[block] for block in PRUNED_BLOCKS]
    model = parent_model(context, "original")
    groups = prunable_groups()
    return prune(model, groups, select_channels(model, groups, counts))


def prunable_groups() -> list[ChannelGroup]:
    """The output channels of each pruned block, ranked by the BN that follows them in the next block."""
    return [
        ChannelGroup(
            scored_by=f"{block + 1}.1",
            produced_by=(f"{block}.3",),
            carried_by=(f"{block + 1}.0", f"{block + 1}.1"),
            consumed_by=(f"{block + 1}.3",),
        )
        for block in PRUNED_BLOCKS
    ]
