"""Learning from a teacher whose answers are computed once."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from compression.distillation.logits import distillation_loss
from experiments.workbench.context import budget, parent_model, setting
from pytest_claims.recipes.recipe import Budget
from pytest_claims.training.augmentation import apply_view
from pytest_claims.training.context import Context
from pytest_claims.training.training import EVALUATION_BATCH, Batch, Images, Objective, autocast, view_transforms


def distillation_from_teacher(context: Context, training: Images) -> Objective:
    """The objective of learning from the parent `teacher`; needs the settings `temperature` and `alpha`.

    The teacher answers in the precision in which it was trained.
    """
    own = context.parents["teacher"].recipe.budget
    answering = replace(budget(context), precision=own.precision if own else "float32")
    teacher = FrozenTeacher(parent_model(context, "teacher"), training, answering, context.seed)
    return distillation(teacher, setting(context, "temperature", float), setting(context, "alpha", float))


class FrozenTeacher:
    """A teacher's logits for augmented images: a view is answered as a whole when it is first asked for, and kept.

    A view is always computed in the same order and batches, so its bytes don't depend on when it is asked for.
    """

    def __init__(self, teacher: nn.Module, data: Images, budget: Budget, seed: int) -> None:
        self._teacher = teacher.eval().requires_grad_(requires_grad=False)
        self._data = data
        self._budget = budget
        self._seed = seed
        self._kept: dict[int, Tensor] = {}

    def logits(self, batch: Batch) -> Tensor:
        """Returns float32 (n, classes)."""
        if batch.view not in self._kept:
            if not self._budget.augmentation.views:
                self._kept.clear()
            self._kept[batch.view] = self._answer(batch.view)
        return self._kept[batch.view][batch.index]

    @torch.no_grad()
    def _answer(self, view: int) -> Tensor:
        transforms = view_transforms(self._budget.augmentation, len(self._data), self._seed, view)
        batches = zip(
            torch.split(self._data.images, EVALUATION_BATCH), torch.split(transforms, EVALUATION_BATCH), strict=True
        )
        with autocast(self._data.images.device, self._budget):
            return torch.cat([self._teacher(apply_view(images, part)).float() for images, part in batches])


def distillation(teacher: FrozenTeacher, temperature: float, alpha: float) -> Objective:
    """The objective of distillation; see `compression.distillation.logits`."""

    def objective(logits: Tensor, batch: Batch) -> Tensor:
        answer = teacher.logits(batch)
        return distillation_loss(logits, answer, batch.labels, temperature=temperature, alpha=alpha)

    return objective
