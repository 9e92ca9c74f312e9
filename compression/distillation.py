"""The loss of a student that learns from a teacher's softened outputs."""

import math

from torch import Tensor
from torch.nn import functional as F


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 20.0,
    alpha: float = 0.5,
) -> Tensor:
    """Cross entropy with the labels, blended with the divergence from the teacher (Hinton et al., 2015).

    (1 - alpha) CE(s, labels) + alpha T^2 KL(softmax(t / T) || softmax(s / T)), both averaged over the
    batch. T^2 keeps the gradient of the second term at one scale whatever the temperature: for large T
    it tends to (s - t) / (N C), with s and t centred over the C classes.

    Args:
        student_logits: s, of shape (N, C).
        teacher_logits: t, of shape (N, C); no gradient flows into it.
        labels: Class indices of shape (N,), int64.
        temperature: T, above 0.
        alpha: Share of the teacher, from 0 to 1.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes don't agree, or a number is out of its bounds.
    """
    _check_shapes(student_logits, teacher_logits, labels)
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; it must be finite and above 0")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must be from 0 to 1")
    hard = F.cross_entropy(student_logits, labels)
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits.detach() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - alpha) * hard + alpha * temperature**2 * soft


def _check_shapes(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> None:
    shape = tuple(student_logits.shape)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"student logits have shape {shape}; (batch, classes), neither 0, is needed")
    if tuple(teacher_logits.shape) != shape:
        raise ValueError(f"teacher logits have shape {tuple(teacher_logits.shape)}, student logits {shape}")
    if tuple(labels.shape) != shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; {shape[:1]} is needed, an index for each")
