"""Losses of how a student places the samples of a batch to each other, whatever the width of its features.

Example:
    with torch.no_grad(), tapped(teacher, ["avgpool"]) as taught:
        teacher(images)
    with tapped(student, ["pool"]) as learnt:
        logits = student(images)
    ours, theirs = learnt.output("pool"), taught.output("avgpool")
    relations = 25 * distance_relation(ours, theirs) + 50 * angle_relation(ours, theirs)
    loss = F.cross_entropy(logits, labels) + relations
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from compression.distillation.precision import full_precision

_ONE_PLACE = 1e-12
"""The longest distance of two samples that counts as none."""


def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the distance-wise loss of relational knowledge distillation (RKD-D; Park et al., 2019).

    The Huber loss (delta 1) of all Euclidean distances between two samples, each model's divided by its mean
    over pairs that are apart. The mean is over all N^2 ordered pairs, as in the authors' code.

    Args:
        student: Shape (N, ...), N from 2; flattened to vectors.
        teacher: Shape (N, ...), of any other width; no gradient flows into it.

    Returns:
        A scalar.

    Raises:
        ValueError: If the batches differ, or are too small.
    """
    _check(student, teacher, 2)
    with full_precision(student, teacher.detach()) as (ours, theirs):
        return F.smooth_l1_loss(_distances(ours), _distances(theirs))


def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the angle-wise loss of relational knowledge distillation (RKD-A; Park et al., 2019).

    The Huber loss (delta 1) of the cosines of all angles between three samples, in the mean over all N^3
    ordered triples, as in the authors' code; one with two samples in one place has a cosine of 0, and no gradient.
    Takes memory for N^2 vectors.

    Args:
        student: Shape (N, ...), N from 3; flattened to vectors.
        teacher: Shape (N, ...), of any other width; no gradient flows into it.

    Returns:
        A scalar.

    Raises:
        ValueError: As `distance_relation`.
    """
    _check(student, teacher, 3)
    with full_precision(student, teacher.detach()) as (ours, theirs):
        return F.smooth_l1_loss(_cosines(ours), _cosines(theirs))


def _distances(features: Tensor) -> Tensor:
    vectors = features.flatten(1)
    # Not by matrix products, which lose half of the digits of a small distance.
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    apart = (distances > 0).sum().clamp(min=1)
    mean = distances.sum() / apart
    # Where all samples are one point the mean is 0, and so is every distance.
    return distances / torch.where(mean > 0, mean, torch.ones_like(mean))


def _cosines(features: Tensor) -> Tensor:
    vectors = features.flatten(1)
    differences = vectors[None, :] - vectors[:, None]
    lengths = differences.norm(dim=2, keepdim=True)
    # Samples in one place have no direction: by next to nothing divided, it would have a gradient of 1e12.
    directions = torch.where(lengths > _ONE_PLACE, differences / lengths.clamp(min=_ONE_PLACE), 0.0)
    return directions @ directions.transpose(1, 2)


def _check(student: Tensor, teacher: Tensor, least: int) -> None:
    for name, features in (("student", student), ("teacher", teacher)):
        if features.dim() < 2 or not features[:1].numel() or len(features) < least:
            shape = tuple(features.shape)
            raise ValueError(f"{name} features have shape {shape}; (batch, ...) of {least} or more samples is needed")
    if len(student) != len(teacher):
        raise ValueError(f"{len(student)} samples of the student, {len(teacher)} of the teacher; they must be the same")
