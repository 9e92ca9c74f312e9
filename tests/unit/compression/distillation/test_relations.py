import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchdistill.losses.mid_level import RKDLoss

from compression.distillation.relations import angle_relation, distance_relation

properties = settings(deadline=None, max_examples=30)


def features(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


cases = st.tuples(st.integers(3, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000)).map(
    lambda case: (features(case[3], case[0], case[1]), features(case[3] + 1, case[0], case[2]))
)


def huber(difference):
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def distances(vectors):
    found = np.array([[np.linalg.norm(a - b) for b in vectors] for a in vectors])
    return found / found[found > 0].mean()


def cosines(vectors):
    """Of the angle at b in each triple (a, b, c); 0 where two are the same."""
    found = {}
    for i, j, k in itertools.product(range(len(vectors)), repeat=3):
        first, second = vectors[i] - vectors[j], vectors[k] - vectors[j]
        lengths = np.linalg.norm(first) * np.linalg.norm(second)
        found[i, j, k] = first @ second / lengths if lengths else 0.0
    return found


@given(cases)
@properties
def test_the_distance_loss_is_that_derived_pair_by_pair_and_torchdistills(case):
    ours, theirs = (distances(vectors.numpy()) for vectors in case)
    expected = np.mean([huber(a - b) for a, b in zip(ours.ravel(), theirs.ravel(), strict=True)])
    loss = distance_relation(*case).item()
    assert loss == pytest.approx(expected, rel=1e-10, abs=1e-14)
    peer = RKDLoss("s", "t", 1.0, 0.0, "mean")({"s": {"output": case[0]}}, {"t": {"output": case[1]}})
    # It takes distances from matrix products, which cost it half of the digits.
    assert loss == pytest.approx(peer.item(), rel=1e-5, abs=1e-7)


@given(cases)
@properties
def test_the_angle_loss_is_that_derived_triple_by_triple_and_torchdistills(case):
    ours, theirs = (cosines(vectors.numpy()) for vectors in case)
    expected = np.mean([huber(ours[triple] - theirs[triple]) for triple in ours])
    loss = angle_relation(*case).item()
    assert loss == pytest.approx(expected, rel=1e-9, abs=1e-13)
    peer = RKDLoss("s", "t", 0.0, 1.0, "mean")({"s": {"output": case[0]}}, {"t": {"output": case[1]}})
    assert loss == pytest.approx(peer.item(), rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("loss", [distance_relation, angle_relation])
def test_a_student_that_is_the_teacher_moved_turned_and_scaled_has_nothing_to_learn(loss):
    teacher = features(0, 6, 4)
    turn = torch.linalg.qr(features(1, 4, 4)).Q
    assert loss(3 * teacher @ turn + 5, teacher) < 1e-20
    assert loss(teacher * torch.tensor([1, 1, 1, 5.0]), teacher) > 1e-3


@pytest.mark.parametrize("loss", [distance_relation, angle_relation])
def test_gradients_are_those_of_finite_differences_and_none_flow_into_the_teacher(loss):
    student, teacher = features(0, 4, 3).requires_grad_(), features(1, 4, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach()), student)
    loss(student, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("loss", [distance_relation, angle_relation])
@pytest.mark.parametrize("student", [torch.ones(4, 3), torch.eye(4, 3)[[0, 0, 1, 2]]])
def test_samples_in_one_place_have_finite_losses_and_gradients(loss, student):
    student = student.clone().requires_grad_()
    value = loss(student, torch.eye(4))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("loss", [distance_relation, angle_relation])
@pytest.mark.parametrize("gap", [0.0, 1e-13])
def test_samples_in_one_place_pull_no_harder_than_ones_that_are_apart(loss, gap):
    student, teacher = features(0, 6, 4), features(1, 6, 4)
    apart = torch.autograd.grad(loss(student.requires_grad_(), teacher), student)[0].abs().max()
    together = torch.cat([student[:1], student[:1] + gap, student[2:]]).detach().requires_grad_()
    pull = torch.autograd.grad(loss(together, teacher), together)[0].abs().max()
    assert 0 < pull < 3 * apart


def test_a_small_distance_keeps_its_digits_far_from_the_origin():
    teacher = torch.tensor([[0.0], [1.0], [3.0]])
    assert distance_relation(1000 + teacher, teacher) < 1e-12


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "message"),
    [
        (distance_relation, (1, 3), (1, 3), r"student features have shape \(1, 3\); \(batch, ...\) of 2 or more"),
        (angle_relation, (2, 3), (2, 3), "of 3 or more samples is needed"),
        (distance_relation, (3,), (3, 3), r"student features have shape \(3,\)"),
        (distance_relation, (3, 3), (3, 0), r"teacher features have shape \(3, 0\)"),
        (angle_relation, (4, 3), (3, 3), "4 samples of the student, 3 of the teacher"),
    ],
)
def test_batches_that_do_not_fit_are_an_error(loss, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(student), torch.zeros(teacher))
