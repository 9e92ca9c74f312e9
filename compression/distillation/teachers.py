"""Several teachers at once.

    answers = [teacher(images) for teacher in teachers]
    loss = several_teachers_divergence(student(images), answers, temperature=4, weights=[2, 1])

Or as one teacher, whose answers can be kept, for any loss at the same temperature:

    loss = distillation_loss(logits, mixture_logits(answers, temperature=4), labels, temperature=4)
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compression.distillation.logits import check_logits, check_temperature, softened_divergence
from compression.distillation.precision import full_precision


def several_teachers_divergence(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    *,
    temperature: float,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the weighted mean of `softened_divergence` from each teacher.

    Its gradient is that of the divergence from `mixture_logits`; the values differ by what the teachers
    disagree on, which no student can remove.

    Args:
        student_logits: Shape (N, C).
        teacher_logits: One (N, C) for each teacher; no gradient flows into them.
        temperature: T, above 0.
        weights: One for each teacher, from 0, and not all 0; only their ratios count. Equal by default.

    Returns:
        A scalar.

    Raises:
        ValueError: If there is no teacher, shapes don't agree, or a number is out of its bounds.
    """
    shares = _shares(teacher_logits, weights)
    losses = [softened_divergence(student_logits, logits, temperature) for logits in teacher_logits]
    return torch.stack([share * loss for share, loss in zip(shares, losses, strict=True)]).sum()


def mixture_logits(
    teacher_logits: Sequence[Tensor], *, temperature: float, weights: Sequence[float] | None = None
) -> Tensor:
    """Return the logits of one teacher whose softened probabilities are the weighted mean of all teachers'.

    T log(sum of w softmax(t / T)): softened by the same temperature, they give the mean (the ensemble of
    Hinton et al., 2015).

    Args:
        teacher_logits: One (N, C) for each teacher; no gradient flows into them.
        temperature: T, above 0, at which the mixture will be used.
        weights: As in `several_teachers_divergence`.

    Returns:
        Shape (N, C), float32 of logits in half precision.

    Raises:
        ValueError: As `several_teachers_divergence`.
    """
    shares = _shares(teacher_logits, weights)
    check_temperature(temperature)
    for logits in teacher_logits:
        check_logits(teacher_logits[0], logits)
    with full_precision(*(logits.detach() for logits in teacher_logits)) as answers:
        parts = [
            (logits / temperature).log_softmax(dim=1) + math.log(share)
            for share, logits in zip(shares, answers, strict=True)
            if share
        ]
        return temperature * torch.stack(parts).logsumexp(dim=0)


def _shares(teacher_logits: Sequence[Tensor], weights: Sequence[float] | None) -> list[float]:
    if not len(teacher_logits):
        raise ValueError("there is no teacher; at least 1 is needed")
    given = [1.0] * len(teacher_logits) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(teacher_logits):
        raise ValueError(f"{len(given)} weights for {len(teacher_logits)} teachers; one for each is needed")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given) or not sum(given):
        raise ValueError(f"weights are {given}; they must be finite, at least 0, and not all 0")
    return [weight / sum(given) for weight in given]
