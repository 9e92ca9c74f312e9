"""Losses of a student's logits against a teacher's softened ones.

    loss = distillation_loss(student(images), answers, labels, temperature=4, alpha=0.9)
    loss = F.cross_entropy(logits, labels) + decoupled_divergence(logits, answers, labels)

All take logits, never probabilities, are averaged over the batch alone, and carry T^2. No gradient flows into a
teacher. T^2 enlarges the rounding of a divergence: of float32 logits its value, not its gradient, is off by 0.4 % at a
temperature of 1000 and by 30 % at 10,000, where float64 logits keep it right.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from compression.distillation.precision import full_precision


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 20.0,
    alpha: float = 0.5,
) -> Tensor:
    """Blend the cross entropy with the labels and the divergence from the teacher (Hinton et al., 2015).

    (1 - alpha) CE(s, labels) + alpha T^2 KL(softmax(t / T) || softmax(s / T)), both averaged over the
    batch. T^2 keeps the gradient of the second term at one scale whatever the temperature: for large T
    it tends to (s - t) / (N C), with s and t centred over the C classes.

    Args:
        student_logits: s, of shape (N, C).
        teacher_logits: t, of shape (N, C); no gradient flows into it.
        labels: Class indices of shape (N,), int64, each from 0 to C - 1; none can be left out, by -100 or the like.
        temperature: T, above 0.
        alpha: Share of the teacher, from 0 to 1.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes don't agree, or a label or a number is out of its bounds.
    """
    check_logits(student_logits, teacher_logits)
    check_labels(student_logits, labels)
    check_temperature(temperature)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must be from 0 to 1")
    with full_precision(student_logits, teacher_logits.detach()) as (student, teacher):
        hard = F.cross_entropy(student, labels)
        soft = _divergence(student / temperature, teacher / temperature)
        return (1 - alpha) * hard + alpha * temperature**2 * soft


def softened_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softmax(t / T) || softmax(s / T)), averaged over the batch (Hinton et al., 2015).

    Args:
        student_logits: s, of shape (N, C).
        teacher_logits: t, of shape (N, C); no gradient flows into it.
        temperature: T, above 0.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes don't agree, or the temperature is out of its bounds.
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    with full_precision(student_logits, teacher_logits.detach()) as (student, teacher):
        return temperature**2 * _divergence(student / temperature, teacher / temperature)


def soft_target_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return -T^2 times the sum over classes of softmax(t / T) log softmax(s / T), averaged over the batch.

    Differs from `softened_divergence` by T^2 times the teacher's entropy, so that its gradient is the same.

    Args:
        student_logits: s, of shape (N, C).
        teacher_logits: t, of shape (N, C); no gradient flows into it.
        temperature: T, above 0.

    Returns:
        A scalar.

    Raises:
        ValueError: As `softened_divergence`.
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    with full_precision(student_logits, teacher_logits.detach()) as (student, teacher):
        targets = (teacher / temperature).softmax(dim=1)
        return temperature**2 * F.cross_entropy(student / temperature, targets)


def decoupled_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
) -> Tensor:
    """Return the loss of decoupled knowledge distillation: T^2 (a TCKD + b NCKD), averaged over the batch.

    The method is that of Zhao et al. (2022).

    TCKD is the divergence of the two-way distribution "the label, or another class", NCKD that of the
    distribution over the other classes alone. `softened_divergence` is TCKD + (1 - p) NCKD, with p the
    teacher's softened probability of the label: it mutes the second where the teacher is sure.

    Args:
        student_logits: Shape (N, C), with C from 2.
        teacher_logits: Shape (N, C); no gradient flows into it.
        labels: Class indices of shape (N,), int64, each from 0 to C - 1; none can be left out, by -100 or the like.
        temperature: T, above 0.
        target_weight: a, from 0.
        non_target_weight: b, from 0.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes don't agree, there is one class only, or a label or a number is out of its bounds.
    """
    check_logits(student_logits, teacher_logits)
    check_labels(student_logits, labels)
    check_temperature(temperature)
    if student_logits.shape[1] < 2:
        raise ValueError("logits of 1 class; 2 or more are needed, one for the label and one to tell it from")
    for name, weight in (("target_weight", target_weight), ("non_target_weight", non_target_weight)):
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"{name} is {weight}; it must be finite and at least 0")
    with full_precision(student_logits, teacher_logits.detach()) as (student, teacher):
        ours, our_others = _decoupled(student / temperature, labels)
        theirs, their_others = _decoupled(teacher / temperature, labels)
        target, non_target = _divergence(ours, theirs), _divergence(our_others, their_others)
        return temperature**2 * (target_weight * target + non_target_weight * non_target)


def _decoupled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits (N, 2) of "the label, or another", and those (N, C - 1) of the others."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    is_target = classes == labels[:, None]
    others = logits[~is_target].view(len(logits), -1)
    return torch.stack([logits[is_target], others.logsumexp(dim=1)], dim=1), others


def _divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return F.kl_div(
        F.log_softmax(student_logits, dim=1),
        F.log_softmax(teacher_logits, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Check that a student's and a teacher's logits belong together.

    Raises:
        ValueError: If they are not both (batch, classes), the same and neither 0.
    """
    shape = tuple(student_logits.shape)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"student logits have shape {shape}; (batch, classes), neither 0, is needed")
    if tuple(teacher_logits.shape) != shape:
        raise ValueError(f"teacher logits have shape {tuple(teacher_logits.shape)}, student logits {shape}")


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Check that labels are a class for each row of logits.

    A GPU is waited for once, to read their smallest and largest.

    Raises:
        ValueError: If their shape is not (batch,), their type not int64, or one is no class.
    """
    if tuple(labels.shape) != tuple(logits.shape[:1]):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; {tuple(logits.shape[:1])} is needed, an index for each"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype}; class indices, torch.int64, are needed")
    least, most = torch.stack(torch.aminmax(labels)).tolist()
    last = logits.shape[1] - 1
    if least < 0 or most > last:
        raise ValueError(f"labels are from {least} to {most}; classes, from 0 to {last}, are needed")


def check_temperature(temperature: float) -> None:
    """Check that a temperature is above 0 and finite.

    Raises:
        ValueError: If it is not finite, or not above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; it must be finite and above 0")
