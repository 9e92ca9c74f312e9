"""The objective of learning from the parent `teacher`."""

from dataclasses import replace

from experiments.builders.context import budget, parent_model, setting
from experiments.builders.frozen_teacher import FrozenTeacher, distillation
from pytest_claims.training.context import Context
from pytest_claims.training.training import Images, Objective


def distillation_from_teacher(context: Context, training: Images) -> Objective:
    """Needs the settings `temperature` and `alpha`; see `compression.distillation.logits`.

    The teacher answers in the precision in which it was trained.
    """
    own = context.parents["teacher"].recipe.budget
    answering = replace(budget(context), precision=own.precision if own else "float32")
    teacher = FrozenTeacher(parent_model(context, "teacher"), training, answering, context.seed)
    return distillation(teacher, setting(context, "temperature", float), setting(context, "alpha", float))
