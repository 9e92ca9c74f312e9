import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchdistill.losses.mid_level import ATLoss

from compression.distillation.features import attention_transfer, hint_loss, hint_regressor

properties = settings(deadline=None, max_examples=40)


def features(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


sizes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


def expected_attention_transfer(student, teacher):
    maps = []
    for maps_of_a_model in (student, teacher):
        attention = (maps_of_a_model**2).sum(axis=1).reshape(len(maps_of_a_model), -1)
        maps.append(attention / np.linalg.norm(attention, axis=1, keepdims=True))
    return ((maps[0] - maps[1]) ** 2).mean()


@given(sizes, st.integers(0, 1000))
@properties
def test_attention_transfer_is_that_derived_by_hand_and_torchdistills(size, seed):
    batch, ours, theirs, height, width = size
    student, teacher = features(seed, batch, ours, height, width), features(seed + 1, batch, theirs, height, width)
    loss = attention_transfer(student, teacher).item()
    assert loss == pytest.approx(expected_attention_transfer(student.numpy(), teacher.numpy()), rel=1e-10, abs=1e-15)
    pairs = {"pair": {"student": {"path": "s", "io": "output"}, "teacher": {"path": "t", "io": "output"}}}
    peer = ATLoss(pairs)({"s": {"output": student}}, {"t": {"output": teacher}})
    assert loss == pytest.approx(peer.item(), rel=1e-10, abs=1e-15)


def test_attention_looks_at_where_a_model_is_active_not_how_much_or_in_which_channel():
    teacher = features(0, 2, 5, 3, 4)
    assert attention_transfer(3 * teacher.flip(1), teacher) < 1e-20
    assert attention_transfer(teacher.flip(2), teacher) > 1e-3


def test_a_dead_layer_has_finite_gradients():
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    attention_transfer(student, torch.ones(2, 3, 4, 4)).backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("loss", [hint_loss, attention_transfer])
def test_gradients_are_those_of_finite_differences_and_none_flow_into_the_teacher(loss):
    student, teacher = (features(seed, 2, 3, 2, 2).requires_grad_() for seed in range(2))
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher.detach()), student)
    loss(student, teacher).backward()
    assert teacher.grad is None


def test_a_hint_is_the_papers_half_sum_but_for_a_constant():
    student, teacher = features(0, 4, 3, 2, 5), features(1, 4, 3, 2, 5)
    paper = 0.5 * ((student - teacher) ** 2).sum(dim=(1, 2, 3)).mean()
    assert hint_loss(student, teacher).item() == pytest.approx(2 / 30 * paper.item())


@given(sizes, st.integers(0, 2), st.integers(0, 2))
@properties
def test_a_regressor_gives_a_students_maps_the_teachers_shape(size, taller, wider):
    batch, ours, theirs, height, width = size
    shape = (ours, height + taller, width + wider)
    regressor = hint_regressor(shape, (theirs, height, width)).double()
    assert hint_loss(regressor(features(0, batch, *shape)), features(1, batch, theirs, height, width)) >= 0
    assert regressor.weight.shape == (theirs, ours, 1 + taller, 1 + wider)


def test_a_regressor_learns_a_linear_relation_of_widths():
    student, matrix = features(0, 64, 3), features(1, 5, 3)
    regressor = hint_regressor((3,), (5,)).double()
    optimizer = torch.optim.LBFGS(regressor.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        loss = hint_loss(regressor(student), student @ matrix.T)
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0.1
    assert closure() < 1e-12


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: hint_loss(torch.zeros(2, 3), torch.zeros(2, 4)), r"shape \(2, 3\), the teacher's \(2, 4\)"),
        (lambda: hint_loss(torch.zeros(2, 0), torch.zeros(2, 0)), "not empty"),
        (lambda: hint_regressor((3,), (4, 2, 2)), r"features of shape \(3,\) and \(4, 2, 2\)"),
        (lambda: hint_regressor((3, 0, 2), (4, 2, 2)), r"features of shape \(3, 0, 2\)"),
        (lambda: hint_regressor((3, 2, 2), (4, 2, 3)), r"map of \(2, 2\) is smaller than the teacher's of \(2, 3\)"),
        (lambda: attention_transfer(torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 3)), "differ in channels alone"),
        (lambda: attention_transfer(torch.zeros(2, 3), torch.zeros(2, 3)), r"student features have shape \(2, 3\)"),
    ],
)
def test_shapes_that_do_not_agree_are_an_error(attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt()
