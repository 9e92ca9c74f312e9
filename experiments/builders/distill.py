"""Distillation of the parent `teacher` into the recipe's architecture."""

from experiments.builders.context import (
    Built,
    Context,
    budget,
    fresh_model,
    parent_model,
    settings,
    splits,
    trained,
)
from experiments.frozen_teacher import FrozenTeacher, distillation
from experiments.training import fit


def build(context: Context) -> Built:
    """Needs the settings `temperature` and `alpha`; see `compression.distillation.logits`."""
    options = settings(context)
    training, validation = splits(context)
    teacher = FrozenTeacher(parent_model(context, "teacher"), training, budget(context), context.seed)
    objective = distillation(teacher, float(str(options["temperature"])), float(str(options["alpha"])))
    model = fresh_model(context)
    history = fit(model, training, validation, budget(context), objective, context.seed, context.watcher)
    return trained(model, context, history)
