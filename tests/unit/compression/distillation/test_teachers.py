import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy.special import softmax

from compression.distillation.logits import distillation_loss, softened_divergence
from compression.distillation.teachers import mixture_logits, several_teachers_divergence

properties = settings(deadline=None, max_examples=40)
temperatures = st.floats(0.5, 40)


@st.composite
def classes(draw):
    """Logits of a student, those of teachers, and a weight for each."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(2, 5)))
    logits = st_numpy.arrays(np.float64, shape, elements=st.floats(-8, 8))
    count = draw(st.integers(1, 3))
    weights = draw(st.lists(st.floats(0.1, 5), min_size=count, max_size=count))
    return draw(logits), [draw(logits) for _ in range(count)], weights


@given(classes(), temperatures)
@properties
def test_a_mixture_softens_to_the_weighted_mean_of_all_probabilities(case, temperature):
    _, teachers, weights = case
    mixture = mixture_logits([torch.tensor(t) for t in teachers], temperature=temperature, weights=weights)
    expected = np.average([softmax(t / temperature, axis=1) for t in teachers], axis=0, weights=weights)
    np.testing.assert_allclose(softmax(mixture.numpy() / temperature, axis=1), expected, rtol=1e-9)


@given(classes(), temperatures)
@properties
def test_several_teachers_pull_as_their_mixture_does(case, temperature):
    student, teachers, weights = torch.tensor(case[0], requires_grad=True), [torch.tensor(t) for t in case[1]], case[2]
    options = {"temperature": temperature, "weights": weights}
    together = several_teachers_divergence(student, teachers, **options)
    mixed = softened_divergence(student, mixture_logits(teachers, **options), temperature)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (together, mixed)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)
    alone = [softened_divergence(student, teacher, temperature).item() for teacher in teachers]
    assert together.item() == pytest.approx(np.average(alone, weights=weights), rel=1e-9, abs=1e-12)
    assert mixed.item() <= together.item() + 1e-9


def test_teachers_are_equal_by_default_one_of_weight_0_does_not_count_and_only_ratios_do():
    torch.manual_seed(0)
    student, *teachers = torch.randn(4, 3, 5, dtype=torch.float64)
    loss = several_teachers_divergence(student, teachers, temperature=2)
    for weights in ([1, 1, 1], [5, 5, 5]):
        same = several_teachers_divergence(student, teachers, temperature=2, weights=weights)
        torch.testing.assert_close(same, loss)
    two = mixture_logits(teachers, temperature=2, weights=[1, 0, 3])
    torch.testing.assert_close(two, mixture_logits([teachers[0], teachers[2]], temperature=2, weights=[1, 3]))


def test_a_single_teacher_is_itself():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2])
    mixture = mixture_logits([teacher], temperature=4)
    torch.testing.assert_close(distillation_loss(student, mixture, labels), distillation_loss(student, teacher, labels))


def test_gradients_are_those_of_finite_differences_and_none_flow_into_teachers():
    torch.manual_seed(0)
    student, *teachers = (logits.clone().requires_grad_() for logits in torch.randn(3, 3, 5, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda s: several_teachers_divergence(s, teachers, temperature=3), student)
    several_teachers_divergence(student, teachers, temperature=3).backward()
    assert all(teacher.grad is None for teacher in teachers)
    assert not mixture_logits(teachers, temperature=3).requires_grad


@pytest.mark.parametrize(
    ("teachers", "options", "message"),
    [
        ([], {}, "there is no teacher"),
        ([(2, 3)], {"weights": [1, 2]}, "2 weights for 1 teachers"),
        ([(2, 3), (2, 3)], {"weights": [1, -1]}, r"weights are \[1.0, -1.0\]"),
        ([(2, 3)], {"weights": [0]}, "not all 0"),
        ([(2, 3)], {"weights": [float("nan")]}, r"weights are \[nan\]"),
        ([(2, 3), (2, 4)], {}, r"teacher logits have shape \(2, 4\), student logits \(2, 3\)"),
        ([(2, 3)], {"temperature": 0}, "temperature is 0"),
    ],
)
def test_teachers_that_do_not_fit_are_an_error(teachers, options, message):
    answers = [torch.zeros(shape) for shape in teachers]
    options = {"temperature": 1, **options}
    with pytest.raises(ValueError, match=message):
        several_teachers_divergence(torch.zeros(2, 3), answers, **options)
    with pytest.raises(ValueError, match=message):
        mixture_logits(answers, **options)
