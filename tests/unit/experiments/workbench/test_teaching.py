from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from experiments.workbench.teaching import FrozenTeacher, distillation
from pytest_claims.datasets.dataset import Split
from pytest_claims.recipes.recipe import Augmentation, Budget
from pytest_claims.training.training import (
    EVALUATION_BATCH,
    Images,
    Unwatched,
    augmented_batches,
    fit,
    seed_initialisation,
)

BUDGET = Budget(4, 64, "sgd", 0.05, 0.0, "constant", "float32", Augmentation(0.1, 10.0, True, 2))
ENDLESS = replace(BUDGET, augmentation=replace(BUDGET.augmentation, views=0))
COUNT = EVALUATION_BATCH + 30


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (COUNT, 4, 4, 3)).astype(np.uint8)
    return Images.of(Split(pixels, random.integers(0, 3, COUNT)), torch.device("cpu"))


@pytest.fixture
def model():
    seed_initialisation(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


@pytest.fixture
def forwards(model):
    """The sizes of the batches that the model answered."""
    sizes = []
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    return sizes


def epochs(data, budget, numbers):
    return [batch for number in numbers for batch in augmented_batches(data, budget, 7, number)]


@pytest.mark.parametrize("budget", [BUDGET, ENDLESS])
def test_its_answers_are_those_to_the_students_own_images(data, model, budget):
    teacher = FrozenTeacher(model, data, budget, 7)
    for batch in epochs(data, budget, [0, 1, 2]):
        with torch.no_grad():
            expected = model(batch.inputs)
        answer = teacher.logits(batch)
        assert answer.dtype == torch.float32
        assert not answer.requires_grad
        assert torch.allclose(answer, expected, atol=1e-5)


def test_each_view_is_answered_once(data, model, forwards):
    teacher = FrozenTeacher(model, data, BUDGET, 7)
    for batch in epochs(data, BUDGET, [0, 1, 2, 3]):
        teacher.logits(batch)
    assert forwards == [EVALUATION_BATCH, 30] * 2
    assert len(teacher._kept) == 2


def test_with_endless_views_only_the_last_is_kept(data, model, forwards):
    teacher = FrozenTeacher(model, data, ENDLESS, 7)
    for batch in epochs(data, ENDLESS, [0, 1, 2]):
        teacher.logits(batch)
        assert list(teacher._kept) == [batch.view]
    assert forwards == [EVALUATION_BATCH, 30] * 3


def test_when_a_view_is_asked_for_does_not_change_its_answer(data, model):
    (batch, *_), (later, *_) = (epochs(data, BUDGET, [number]) for number in (0, 1))
    first, second = (FrozenTeacher(model, data, BUDGET, 7) for _ in range(2))
    second.logits(later)
    assert torch.equal(first.logits(batch), second.logits(batch))


def test_it_stays_as_it_is_while_a_student_learns(data, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    teacher = FrozenTeacher(model, data, BUDGET, 7)
    student = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    started = student[1].weight.detach().clone()
    fit(student, data, data, replace(BUDGET, epochs=2), distillation(teacher, 4.0, 0.9), 7, Unwatched())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert not torch.equal(student[1].weight, started)


@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.9), (20.0, 0.5), (1.0, 0.0), (1.0, 1.0)])
def test_the_objective_is_hintons_on_the_batchs_answers(data, model, temperature, alpha):
    teacher = FrozenTeacher(model, data, BUDGET, 7)
    batch = epochs(data, BUDGET, [0])[-1]
    logits = torch.randn(len(batch.labels), 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        t = model(batch.inputs).double().numpy() / temperature
    s, labels = logits.double().numpy(), batch.labels.numpy()

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    hard = -log_softmax(s)[np.arange(len(labels)), labels].mean()
    soft = (np.exp(log_softmax(t)) * (log_softmax(t) - log_softmax(s / temperature))).sum(1).mean()
    expected = (1 - alpha) * hard + alpha * temperature**2 * soft
    assert float(distillation(teacher, temperature, alpha)(logits, batch)) == pytest.approx(expected, rel=1e-4)


def test_half_precision_is_the_budgets(data, model):
    seen = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    batch = epochs(data, BUDGET, [0])[0]
    answer = FrozenTeacher(model, data, replace(BUDGET, precision="bfloat16"), 7).logits(batch)
    assert set(seen) == {torch.bfloat16}
    assert answer.dtype == torch.float32
