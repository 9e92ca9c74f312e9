"""Distillation of the parent `teacher` into the recipe's architecture."""

from experiments.workbench.context import budget, fresh_model, splits, trained
from experiments.workbench.teaching import distillation_from_teacher
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import fit


def build(context: Context) -> Built:
    """Needs the settings of `experiments.workbench.teaching`."""
    training, validation = splits(context)
    objective = distillation_from_teacher(context, training)
    model = fresh_model(context)
    history = fit(model, training, validation, budget(context), objective, context.seed, context.watcher)
    return trained(model, context, history)
