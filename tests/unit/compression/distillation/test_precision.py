"""Every loss in half precision and under autocast, against float64 of the same numbers."""

import contextlib

import pytest
import torch
from torch.nn import functional as F

from compression.distillation.features import attention_transfer, hint_loss
from compression.distillation.logits import (
    decoupled_divergence,
    distillation_loss,
    soft_target_cross_entropy,
    softened_divergence,
)
from compression.distillation.relations import angle_relation, distance_relation
from compression.distillation.teachers import mixture_logits, several_teachers_divergence

HALVES = [torch.float16, torch.bfloat16]
LABELS = torch.tensor([0, 7, 99, 3, 50, 21, 42, 64])
MAPS = (8, 4, 5, 5)

LOSSES = {
    "distillation": lambda s, t: distillation_loss(s, t, LABELS),
    "distillation at 100": lambda s, t: distillation_loss(s, t, LABELS, temperature=100.0, alpha=1.0),
    "labels": lambda s, t: distillation_loss(s, t, LABELS, alpha=0.0),
    "divergence": lambda s, t: softened_divergence(s, t, 20.0),
    "soft targets": lambda s, t: soft_target_cross_entropy(s, t, 20.0),
    "decoupled": lambda s, t: decoupled_divergence(s, t, LABELS, temperature=20.0),
    "teachers": lambda s, t: several_teachers_divergence(s, [t, t.flip(0)], temperature=20.0, weights=[2, 1]),
    "mixture": lambda s, t: softened_divergence(s, mixture_logits([t, t.flip(0)], temperature=20.0), 20.0),
    "hint": hint_loss,
    "attention": lambda s, t: attention_transfer(s.view(MAPS), t.view(MAPS)),
    "distances": distance_relation,
    "angles": angle_relation,
}
BEYOND_HALVES = {"hint": 200, "attention": 200, "distances": 50, "angles": 50}
"""How much larger than logits the features are: their squares are more than float16 holds."""

FLOAT32 = 5e-4
"""What T^2 makes of float32's rounding of a divergence, at a temperature of 100."""


def inputs(name, dtype):
    generator = torch.Generator().manual_seed(0)
    scale = 3 * BEYOND_HALVES.get(name, 1)
    return [(scale * torch.randn(8, 100, generator=generator)).to(dtype) for _ in range(2)]


def value_and_gradient(loss, student, teacher, autocast=None):
    """The gradient is taken outside of autocast, as PyTorch asks for."""
    student = student.clone().requires_grad_()
    with torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext():
        value = loss(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("autocast", [None, *HALVES])
def test_halves_give_what_float64_gives_for_the_same_numbers(name, dtype, autocast):
    student, teacher = inputs(name, dtype)
    expected, slope = value_and_gradient(LOSSES[name], student.double(), teacher.double())
    value, gradient = value_and_gradient(LOSSES[name], student, teacher, autocast)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=FLOAT32)
    # Handed over in halves: one of their roundings, and float16's smallest number, is what it may differ by.
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.double(), slope, rtol=0.005, atol=1e-7 + 1e-3 * slope.abs().max().item())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", HALVES)
def test_autocast_changes_no_bit(name, dtype, autocast):
    alone = value_and_gradient(LOSSES[name], *inputs(name, dtype))
    inside = value_and_gradient(LOSSES[name], *inputs(name, dtype), autocast)
    assert alone[0].dtype == dtype
    assert all(map(torch.equal, alone, inside))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mixed", [(torch.float16, torch.float32), (torch.float32, torch.bfloat16)])
def test_a_model_in_halves_and_one_in_float32_fit_together(name, mixed):
    student, teacher = (tensor.to(dtype) for tensor, dtype in zip(inputs(name, torch.float32), mixed, strict=True))
    expected = LOSSES[name](student.double(), teacher.double())
    assert LOSSES[name](student, teacher).item() == pytest.approx(expected.item(), rel=FLOAT32)


def test_a_mixture_of_halves_is_float32():
    _, teacher = inputs("mixture", torch.float16)
    mixture = mixture_logits([teacher, teacher], temperature=4)
    assert mixture.dtype == torch.float32
    torch.testing.assert_close(mixture, F.log_softmax(teacher.float() / 4, dim=1) * 4)
