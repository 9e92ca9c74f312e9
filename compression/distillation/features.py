"""Losses of a student's features against a teacher's.

Example:
    with torch.no_grad(), tapped(teacher, ["layer3"]) as taught:
        teacher(images)
    with tapped(student, ["blocks.5"]) as learnt:
        logits = student(images)
    ours, theirs = learnt.output("blocks.5"), taught.output("layer3")
    regressor = hint_regressor(ours.shape[1:], theirs.shape[1:])  # once; the optimizer trains it, too
    loss = F.cross_entropy(logits, labels) + hint_loss(regressor(ours), theirs)
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from compression.distillation.precision import full_precision


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of features (FitNets; Romero et al., 2015).

    The paper halves the sum over all elements of a sample; this is that, times 2 over their number, so
    that one weight serves layers of any size.

    Args:
        student: Shape (N, ...), through `hint_regressor` if the student's is not the teacher's.
        teacher: The same shape; no gradient flows into it.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes differ, or are empty.
    """
    if student.shape != teacher.shape or not student.numel():
        raise ValueError(
            f"student features have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; "
            "they must be the same and not empty: see hint_regressor"
        )
    with full_precision(student, teacher.detach()) as (ours, theirs):
        return F.mse_loss(ours, theirs)


def hint_regressor(student_shape: Sequence[int], teacher_shape: Sequence[int]) -> nn.Module:
    """Make a trainable layer that gives a student's features the shape of a teacher's (FitNets).

    A linear layer between vectors. Between maps, a convolution without padding whose kernel is as large as
    the teacher's map is smaller, which the paper prefers to a dense layer: 1x1 where the maps are equal.

    Args:
        student_shape: Shape of one sample's features: (features,), or (channels, height, width).
        teacher_shape: The same for the teacher. It has as many dimensions, and no map is higher or wider than the
            student's.

    Returns:
        Maps (N, *student_shape) to (N, *teacher_shape).

    Raises:
        ValueError: If there is no such layer.
    """
    student, teacher = tuple(student_shape), tuple(teacher_shape)
    if len(student) != len(teacher) or len(student) not in (1, 3) or min(*student, *teacher) < 1:
        raise ValueError(
            f"features of shape {student} and {teacher}: both must be (features,) or (channels, height, width)"
        )
    if len(student) == 1:
        return nn.Linear(student[0], teacher[0])
    kernel = (student[1] - teacher[1] + 1, student[2] - teacher[2] + 1)
    if min(kernel) < 1:
        raise ValueError(f"the student's map of {student[1:]} is smaller than the teacher's of {teacher[1:]}")
    return nn.Conv2d(student[0], teacher[0], kernel)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of attention maps (Zagoruyko and Komodakis, 2017).

    A map is the mean of squares over the channels, flattened and of unit length: channels may differ. The
    mean is over positions and batch, as in the authors' code, whose usual weight is 1000; the paper's formula
    takes the distance itself.

    Args:
        student: Shape (N, C, height, width).
        teacher: Shape (N, C', height, width); no gradient flows into it.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes don't agree.
    """
    shape, other = tuple(student.shape), tuple(teacher.shape)
    if len(shape) != 4 or len(other) != 4 or 0 in shape + other or shape[:1] + shape[2:] != other[:1] + other[2:]:
        raise ValueError(
            f"student features have shape {shape}, the teacher's {other}; both must be (batch, channels, height, "
            "width), none 0, and differ in channels alone"
        )
    with full_precision(student, teacher.detach()) as (ours, theirs):
        return F.mse_loss(_attention(ours), _attention(theirs))


def _attention(features: Tensor) -> Tensor:
    return F.normalize(features.square().mean(dim=1).flatten(1), dim=1)
