"""Network slimming of the student with real fine-tuning: the optimizer is built on the pruned network."""

from experiments.builders.slim import pruned_parent
from experiments.workbench.context import budget, splits, trained
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import cross_entropy, fit


def build(context: Context) -> Built:
    """Prunes the parent `original`, then trains it with cross-entropy for the recipe's budget."""
    model = pruned_parent(context)
    history = fit(model, *splits(context), budget(context), cross_entropy, context.seed, context.watcher)
    return trained(model, context, history)
