import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from torch.nn import functional as F
from torchdistill.losses.mid_level import KDLoss

from compression.distillation.logits import (
    decoupled_divergence,
    distillation_loss,
    soft_target_cross_entropy,
    softened_divergence,
)

logits_pairs = st.tuples(st.integers(1, 5), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(
        *[st_numpy.arrays(np.float64, shape, elements=st.floats(-8, 8)) for _ in range(2)],
        st_numpy.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)),
    )
)
temperatures = st.floats(0.5, 40)
alphas = st.floats(0, 1)
properties = settings(deadline=None, max_examples=40)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def expected_loss(student, teacher, labels, temperature, alpha):
    hard = -log_softmax(student)[np.arange(len(labels)), labels].mean()
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    soft = (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()
    return (1 - alpha) * hard + alpha * temperature**2 * soft


def expected_gradient(student, teacher, labels, temperature, alpha):
    hard = np.exp(log_softmax(student)) - np.eye(student.shape[1])[labels]
    soft = np.exp(log_softmax(student / temperature)) - np.exp(log_softmax(teacher / temperature))
    return ((1 - alpha) * hard + alpha * temperature * soft) / len(labels)


def loss_and_gradient(student, teacher, labels, temperature, alpha):
    leaf = torch.tensor(student, requires_grad=True)
    loss = distillation_loss(leaf, torch.tensor(teacher), torch.tensor(labels), temperature=temperature, alpha=alpha)
    loss.backward()
    return loss.item(), leaf.grad.numpy()


@given(logits_pairs, temperatures, alphas)
@properties
def test_value_and_gradient_are_those_derived_by_hand(arrays, temperature, alpha):
    loss, gradient = loss_and_gradient(*arrays, temperature, alpha)
    assert loss == pytest.approx(expected_loss(*arrays, temperature, alpha), rel=1e-9, abs=1e-11)
    np.testing.assert_allclose(gradient, expected_gradient(*arrays, temperature, alpha), rtol=1e-9, atol=1e-12)


def example(classes=11, batch=6):
    rng = np.random.default_rng(0)
    return (
        rng.normal(0, 3, (batch, classes)),
        rng.normal(0, 3, (batch, classes)),
        rng.integers(0, classes, batch),
    )


def test_defaults_are_temperature_20_and_equal_shares():
    student, teacher, labels = example()
    loss = distillation_loss(torch.tensor(student), torch.tensor(teacher), torch.tensor(labels))
    assert loss.item() == pytest.approx(expected_loss(student, teacher, labels, 20, 0.5))


def test_the_gradient_keeps_its_scale_at_any_high_temperature():
    # Without T^2 it would shrink by 10^4 over these temperatures.
    student, teacher, labels = example()
    difference = student - teacher
    limit = (difference - difference.mean(axis=1, keepdims=True)) / difference.size
    for temperature, tolerance in ((100, 0.1), (1_000, 0.01), (10_000, 0.001)):
        _, gradient = loss_and_gradient(student, teacher, labels, temperature, 1.0)
        assert np.abs(gradient - limit).max() <= tolerance * np.abs(limit).max()


def test_a_divergence_averaged_over_the_classes_too_would_differ():
    student, teacher, labels = (torch.tensor(array) for array in example())
    loss = distillation_loss(student, teacher, labels, alpha=1.0)
    elementwise = F.kl_div(
        (student / 20).log_softmax(1), (teacher / 20).log_softmax(1), reduction="none", log_target=True
    )
    assert loss.item() == pytest.approx(400 * elementwise.sum(1).mean().item())
    assert loss.item() == pytest.approx(11 * 400 * elementwise.mean().item())


def test_the_divergence_takes_log_probabilities_of_the_student():
    # Probabilities handed over in their place would give a negative "divergence" here.
    logits = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    label = torch.tensor([0])
    softmax_handed = F.kl_div(logits.softmax(1), logits.softmax(1), reduction="batchmean")
    assert softmax_handed < -0.1
    assert distillation_loss(logits, logits, label, temperature=1.0, alpha=1.0) == 0


def test_the_expectation_is_the_teachers():
    # A teacher sure of class 0 and a student that spreads: KL(teacher || student) is log 2, the other is huge.
    teacher = torch.tensor([[40.0, 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64)
    loss = distillation_loss(student, teacher, torch.tensor([0]), temperature=1.0, alpha=1.0)
    assert loss.item() == pytest.approx(np.log(2))


@given(logits_pairs, temperatures)
@properties
def test_a_student_equal_to_its_teacher_has_no_loss(arrays, temperature):
    _, teacher, labels = arrays
    loss, gradient = loss_and_gradient(teacher, teacher, labels, temperature, 1.0)
    assert loss == 0
    assert np.abs(gradient).max() <= 1e-12


@given(logits_pairs, temperatures, alphas, st.floats(-20, 20), st.floats(-20, 20))
@properties
def test_a_constant_added_to_all_logits_of_a_model_changes_nothing(arrays, temperature, alpha, a, b):
    student, teacher, labels = arrays
    loss, gradient = loss_and_gradient(student, teacher, labels, temperature, alpha)
    shifted, shifted_gradient = loss_and_gradient(student + a, teacher + b, labels, temperature, alpha)
    assert shifted == pytest.approx(loss, rel=1e-9, abs=1e-10)
    np.testing.assert_allclose(shifted_gradient, gradient, rtol=1e-8, atol=1e-11)


def test_without_a_share_of_the_teacher_it_is_cross_entropy():
    student, teacher, labels = (torch.tensor(array) for array in example())
    loss = distillation_loss(student, teacher, labels, alpha=0.0)
    assert torch.equal(loss, F.cross_entropy(student, labels))


def test_no_gradient_flows_into_the_teacher():
    student, teacher, labels = (torch.tensor(array) for array in example())
    teacher.requires_grad_()
    student.requires_grad_()
    distillation_loss(student, teacher, labels).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize(
    ("student", "teacher", "labels", "message"),
    [
        ((2, 3), (2, 4), (2,), r"teacher logits have shape \(2, 4\), student logits \(2, 3\)"),
        ((2, 3), (1, 3), (2,), r"teacher logits have shape \(1, 3\)"),
        ((2, 3), (2, 3), (3,), r"labels have shape \(3,\); \(2,\) is needed"),
        ((2, 3), (2, 3), (2, 3), r"labels have shape \(2, 3\)"),
        ((3,), (3,), (), r"student logits have shape \(3,\)"),
        ((0, 3), (0, 3), (0,), r"student logits have shape \(0, 3\)"),
    ],
)
def test_shapes_that_do_not_agree_are_an_error(student, teacher, labels, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(torch.zeros(student), torch.zeros(teacher), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": 1.1}, "alpha is 1.1"),
        ({"alpha": float("nan")}, "alpha is nan"),
    ],
)
def test_a_number_out_of_its_bounds_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), **options)


def as_of(logits):
    """The outputs of a model's layers as torchdistill takes them."""
    return {"logits": {"output": logits}}


@given(logits_pairs, temperatures, st.floats(0, 0.99))
@properties
def test_the_blend_is_torchdistills(arrays, temperature, alpha):
    student, teacher, labels = (torch.tensor(array) for array in arrays)
    # Its alpha is the labels' share, and without one it leaves T^2 out.
    peer = KDLoss("logits", "output", "logits", "output", temperature, alpha=1 - alpha, beta=alpha)
    loss = distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
    expected = peer(as_of(student), as_of(teacher), labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-11)


@given(logits_pairs, temperatures)
@properties
def test_the_divergence_alone_is_the_blends_with_all_of_the_share(arrays, temperature):
    student, teacher, _ = (torch.tensor(array) for array in arrays)
    loss = softened_divergence(student, teacher, temperature)
    assert loss.item() == pytest.approx(expected_loss(*arrays, temperature, 1.0), rel=1e-9, abs=1e-11)
    peer = KDLoss("logits", "output", "logits", "output", temperature, alpha=0)
    assert loss.item() == pytest.approx(temperature**2 * peer(as_of(student), as_of(teacher)).item(), abs=1e-9)


@given(logits_pairs, temperatures)
@properties
def test_soft_targets_give_the_divergences_gradient_and_the_teachers_entropy_more(arrays, temperature):
    student, teacher, _ = (torch.tensor(array) for array in arrays)
    student.requires_grad_()
    entropy_loss = soft_target_cross_entropy(student, teacher, temperature)
    divergence = softened_divergence(student, teacher, temperature)
    log_p = log_softmax(arrays[1] / temperature)
    entropy = -(np.exp(log_p) * log_p).sum(axis=1).mean()
    assert (entropy_loss - divergence).item() == pytest.approx(temperature**2 * entropy, rel=1e-9, abs=1e-9)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (entropy_loss, divergence)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)


def expected_parts(student, teacher, labels, temperature):
    """The divergences of label against others, and among the others, and the teacher's probability of the label."""
    parts = []
    for s, t, label in zip(student / temperature, teacher / temperature, labels, strict=True):
        q, p = np.exp(log_softmax(s[None])[0]), np.exp(log_softmax(t[None])[0])
        rest = np.arange(len(s)) != label
        pairs = [(p[label], q[label]), (p[rest].sum(), q[rest].sum())]
        target = sum(a * np.log(a / b) for a, b in pairs)
        p_rest, q_rest = p[rest] / p[rest].sum(), q[rest] / q[rest].sum()
        parts.append((target, (p_rest * np.log(p_rest / q_rest)).sum(), p[label]))
    return np.array(parts).T


@given(logits_pairs, temperatures, st.floats(0, 2), st.floats(0, 10))
@properties
def test_the_decoupled_divergence_is_that_derived_by_hand(arrays, temperature, a, b):
    target, non_target, _ = expected_parts(*arrays, temperature)
    options = {"temperature": temperature, "target_weight": a, "non_target_weight": b}
    loss = decoupled_divergence(*(torch.tensor(array) for array in arrays), **options)
    expected = temperature**2 * (a * target + b * non_target).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-7, abs=1e-8)


@given(logits_pairs, temperatures)
@properties
def test_the_divergence_is_the_sum_of_its_parts_the_second_muted_by_the_teachers_sureness(arrays, temperature):
    target, non_target, p = expected_parts(*arrays, temperature)
    loss = softened_divergence(torch.tensor(arrays[0]), torch.tensor(arrays[1]), temperature)
    expected = temperature**2 * (target + (1 - p) * non_target).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-7, abs=1e-8)


def test_the_decoupled_divergence_bears_a_teacher_that_is_quite_sure():
    teacher = torch.tensor([[100.0, 0.0, -1.0]], requires_grad=True)
    student = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    decoupled_divergence(student, teacher, torch.tensor([0]), temperature=1.0).backward()
    assert torch.isfinite(student.grad).all()
    assert teacher.grad is None


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: distillation_loss(s, t, torch.tensor([0, 2, 1])),
        lambda s, t: softened_divergence(s, t, 3.0),
        lambda s, t: soft_target_cross_entropy(s, t, 3.0),
        lambda s, t: decoupled_divergence(s, t, torch.tensor([0, 2, 1])),
    ],
)
def test_gradients_are_those_of_finite_differences_and_averaged_over_the_batch_alone(loss):
    student, teacher = (torch.randn(3, 4, dtype=torch.float64, generator=torch.manual_seed(k)) for k in range(2))
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student.requires_grad_())
    # A class that nobody gives a chance adds nothing, as it would not if losses were divided by classes, too.
    wider = [torch.cat([logits, torch.full((3, 1), -1e4, dtype=torch.float64)], dim=1) for logits in (student, teacher)]
    assert loss(*wider).item() == pytest.approx(loss(student, teacher).item(), rel=1e-9)


@pytest.mark.parametrize("loss", [softened_divergence, soft_target_cross_entropy])
def test_the_plain_losses_check_shapes_and_temperature(loss):
    with pytest.raises(ValueError, match=r"teacher logits have shape \(2, 4\)"):
        loss(torch.zeros(2, 3), torch.zeros(2, 4), 1.0)
    with pytest.raises(ValueError, match="temperature is 0"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), 0)


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (1, {}, "logits of 1 class; 2 or more"),
        (3, {"target_weight": -1}, "target_weight is -1; it must be finite and at least 0"),
        (3, {"non_target_weight": float("nan")}, "non_target_weight is nan"),
        (3, {"temperature": 0}, "temperature is 0"),
    ],
)
def test_what_cannot_be_decoupled_is_an_error(classes, options, message):
    with pytest.raises(ValueError, match=message):
        decoupled_divergence(torch.zeros(2, classes), torch.zeros(2, classes), torch.tensor([0, 0]), **options)


@pytest.mark.parametrize("loss", [distillation_loss, decoupled_divergence])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, -100]), "labels are from -100 to 0; classes, from 0 to 2, are needed"),
        (torch.tensor([3, 1]), "labels are from 1 to 3; classes, from 0 to 2, are needed"),
        (torch.tensor([0.0, 1.0]), "labels are torch.float32; class indices, torch.int64, are needed"),
        (torch.tensor([0, 1], dtype=torch.int32), "labels are torch.int32; class indices"),
        (torch.tensor([True, False]), "labels are torch.bool; class indices"),
    ],
)
def test_labels_that_are_no_classes_are_an_error(loss, labels, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), labels)
