from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.workbench.context import fresh_model, parent_model, splits
from pytest_claims.recipes.recipe import Recipe
from pytest_claims.training.training import augmented_batches


@pytest.fixture(scope="module")
def distil(run, student, cnn, budget):
    def distil_with(temperature=4.0, alpha=0.9, budget=budget, seed=0):
        settings = (("temperature", temperature), ("alpha", alpha))
        architecture = student.context.recipe.architecture
        parents = (("teacher", cnn.context.recipe),)
        return run(
            Recipe("experiments.builders.distill", architecture, "target", budget, settings, parents), seed, teacher=cnn
        )

    return distil_with


def test_a_distilled_student_is_measured(distil, check_training):
    check_training(distil())


def test_without_a_share_for_the_teacher_it_is_the_student_trained_alone(run, student, budget, distil):
    alone = run(replace(student.context.recipe, budget=budget))
    assert distil(alpha=0.0).weights.read_bytes() == alone.weights.read_bytes()
    assert distil(alpha=0.9).weights.read_bytes() != alone.weights.read_bytes()


def test_temperature_counts(distil):
    assert distil(temperature=2.0).weights.read_bytes() != distil().weights.read_bytes()


def test_the_teacher_stays(distil, cnn):
    before = cnn.weights.read_bytes()
    distil()
    assert cnn.weights.read_bytes() == before


def test_the_loss_compares_both_on_the_same_views(distil, still):
    made = distil(budget=still, seed=4)
    student, teacher = fresh_model(made.context).train(), parent_model(made.context, "teacher").eval()
    training, _ = splits(made.context)
    losses = []
    for batch in augmented_batches(training, still, 4, 0):
        with torch.no_grad():
            s, t = student(batch.inputs).double().numpy(), teacher(batch.inputs).double().numpy()
        losses.append(hinton(s, t, batch.labels.numpy(), 4.0, 0.9))
    assert made.built.history[0].loss == pytest.approx(np.mean(losses), rel=1e-4)


def hinton(s, t, labels, temperature, alpha):
    def log_softmax(x):
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    soft_t, soft_s = log_softmax(t / temperature), log_softmax(s / temperature)
    divergence = (np.exp(soft_t) * (soft_t - soft_s)).sum(1).mean()
    return (1 - alpha) * -log_softmax(s)[range(len(labels)), labels].mean() + alpha * temperature**2 * divergence
