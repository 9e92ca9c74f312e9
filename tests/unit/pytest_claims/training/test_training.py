import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from training_watchers import InterruptionError, Recorder

from pytest_claims.datasets.dataset import Split
from pytest_claims.recipes.recipe import Augmentation, Budget
from pytest_claims.training.augmentation import apply_view
from pytest_claims.training.training import (
    EVALUATION_BATCH,
    Images,
    TrainingError,
    augmented_batches,
    cross_entropy,
    evaluate,
    fit,
    learning_rate,
    seed_initialisation,
    seeded_generator,
    view_transforms,
)

BUDGET = Budget(3, 8, "sgd", 0.05, 5e-4, "cosine", "float32", Augmentation(0.1, 10.0, True, 2))


def make_images(count=26, seed=0):
    """Dark images of class 0, bright ones of class 1."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 2
    pixels = random.integers(0, 120, (count, 8, 8, 3)) + 130 * labels[:, None, None, None]
    return Images.of(Split(pixels.astype(np.uint8), labels), torch.device("cpu"))


TRAINING, VALIDATION = make_images(), make_images(10, seed=1)


def make_model(seed=0):
    seed_initialisation(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def train(model, budget=BUDGET, objective=cross_entropy, seed=0, watcher=None):
    return fit(model, TRAINING, VALIDATION, budget, objective, seed, watcher or Recorder())


def state_bytes(model):
    return {name: value.contiguous().numpy().tobytes() for name, value in model.state_dict().items()}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    results = []
    for seed in (0, 0, 1):
        torch.rand(seed + 1)  # whatever was drawn before
        model = make_model()
        results.append((train(model, seed=seed), state_bytes(model)))
    assert results[0] == results[1]
    assert results[0][1] != results[2][1]


def test_an_initialisation_is_not_moved_by_what_was_drawn_before():
    first = state_bytes(make_model())
    list(augmented_batches(TRAINING, BUDGET, 0, 0))
    torch.manual_seed(99)
    torch.rand(1000)
    np.random.default_rng(0).random(10)
    assert state_bytes(make_model()) == first
    assert state_bytes(make_model(1)) != first


def test_each_purpose_has_a_generator_of_its_own():
    seeds = {
        seeded_generator(*purpose).initial_seed() for purpose in [(0,), (1,), (0, "order"), (0, "order", 1), (0, 1)]
    }
    assert len(seeds) == 5
    assert seeded_generator(0, "order", 1).initial_seed() == seeded_generator(0, "order", 1).initial_seed()


def order(budget=BUDGET, seed=0, epoch=0, data=TRAINING):
    return torch.cat([batch.index for batch in augmented_batches(data, budget, seed, epoch)])


def by_image(budget=BUDGET, seed=0, epoch=0):
    """The inputs of an epoch, under the images' own numbers."""
    batches = list(augmented_batches(TRAINING, budget, seed, epoch))
    return dict(zip(order(budget, seed, epoch).tolist(), torch.cat([batch.inputs for batch in batches]), strict=True))


def test_batches_depend_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    first, state = order(), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(order(), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    changed = replace(BUDGET, optimizer="adamw", learning_rate=1.0, augmentation=Augmentation(0, 0, False, 0))
    assert torch.equal(order(changed), first)
    assert torch.equal(order(replace(BUDGET, batch_size=4)), order(replace(BUDGET, batch_size=12)))
    assert not torch.equal(order(seed=1), first)
    assert not torch.equal(order(epoch=1), first)


def test_an_epoch_sees_no_image_twice_and_leaves_out_the_last_partial_batch():
    batches = list(augmented_batches(TRAINING, BUDGET, 0, 0))
    assert [len(batch.labels) for batch in batches] == [8, 8, 8]
    assert len(set(order().tolist())) == 24
    left_out = [set(range(26)) - set(order(epoch=epoch).tolist()) for epoch in range(5)]
    assert len(set(map(frozenset, left_out))) > 1


def test_fewer_images_than_a_batch_are_one_batch():
    assert sorted(order(replace(BUDGET, batch_size=100)).tolist()) == list(range(26))


def test_a_batch_holds_its_images_as_the_view_shows_them():
    transforms = view_transforms(BUDGET.augmentation, len(TRAINING), 5, 1)
    for batch in augmented_batches(TRAINING, BUDGET, 5, 1):
        assert batch.view == 1
        assert torch.equal(batch.labels, TRAINING.labels[batch.index])
        expected = apply_view(TRAINING.images[batch.index], transforms[batch.index])
        assert torch.equal(batch.inputs, expected)


def test_views_come_again_after_as_many_epochs_and_not_before():
    first, second, third = (by_image(epoch=epoch) for epoch in range(3))
    common = first.keys() & second.keys() & third.keys()
    assert common
    assert all(torch.equal(first[number], third[number]) for number in common)
    assert not any(torch.equal(first[number], second[number]) for number in common)


def test_with_0_views_none_comes_again():
    endless = replace(BUDGET, augmentation=replace(BUDGET.augmentation, views=0))
    epochs = [by_image(endless, epoch=epoch) for epoch in range(4)]
    number = set.intersection(*(set(epoch) for epoch in epochs)).pop()
    assert len({epoch[number].numpy().tobytes() for epoch in epochs}) == 4


def test_fitting_learns_what_can_be_told_apart():
    history = train(make_model(), replace(BUDGET, epochs=12, learning_rate=0.2))
    assert history[-1].accuracy == 100.0
    assert history[-1].training_accuracy > 95
    assert history[-1].loss < history[0].loss / 2


def test_fitting_tells_every_epoch():
    watcher, model = Recorder(), make_model()
    history = train(model, watcher=watcher)
    assert [advance.epoch for advance in watcher.told if advance.epoch] == history
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert history[-1].accuracy == evaluate(model, VALIDATION)


def test_fitting_tells_every_step_with_what_is_done():
    watcher = Recorder()
    train(make_model(), watcher=watcher)
    assert [advance.share for advance in watcher.told] == pytest.approx([step / 9 for step in range(1, 10)])
    assert [advance.images for advance in watcher.told] == list(range(8, 80, 8))
    assert [advance.epoch is not None for advance in watcher.told] == [False, False, True] * 3


@pytest.mark.parametrize(
    ("epochs", "every", "evaluated"), [(5, 1, [1, 2, 3, 4, 5]), (5, 2, [1, 3, 5]), (4, 3, [1, 4]), (3, 9, [3])]
)
def test_the_last_epoch_is_evaluated_and_those_before_as_often_as_asked(epochs, every, evaluated):
    budget = replace(BUDGET, epochs=epochs)
    all_evaluated = train(make_model(), budget)
    history = train(make_model(), replace(budget, evaluate_every=every))
    assert [epoch.epoch for epoch in history if epoch.accuracy is not None] == evaluated
    assert [epoch for epoch in history if epoch.accuracy is not None] == [all_evaluated[n - 1] for n in evaluated]
    assert [epoch.loss for epoch in history] == [epoch.loss for epoch in all_evaluated]


def test_loss_and_training_accuracy_are_averages_over_the_steps():
    losses, correct = [], []

    def objective(logits, batch):
        value = cross_entropy(logits, batch)
        losses.append(value.item())
        correct.extend((logits.argmax(1) == batch.labels).tolist())
        return value

    history = train(make_model(), replace(BUDGET, epochs=2), objective)
    assert len(losses) == 6
    assert [epoch.loss for epoch in history] == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:])], rel=1e-12)
    expected = [100 * np.mean(correct[:24]), 100 * np.mean(correct[24:])]
    assert [epoch.training_accuracy for epoch in history] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_at_its_step(bad):
    steps = []

    def objective(logits, batch):
        steps.append(batch)
        return cross_entropy(logits, batch) * (bad if len(steps) == 5 else 1)

    model, before = make_model(), None
    with pytest.raises(TrainingError, match=f"loss is {bad} in epoch 2, step 2"):
        train(model, objective=objective)
    before = state_bytes(model)
    assert len(steps) == 5
    assert all(
        np.isfinite(np.frombuffer(value, np.float32)).all() for name, value in before.items() if "num" not in name
    )


def test_the_given_models_own_parameters_are_stepped():
    model = make_model()
    twin = copy.deepcopy(model)
    before = state_bytes(twin)
    train(model)
    assert state_bytes(twin) == before
    assert all(not torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_rate_of_0_moves_nothing_but_bn_statistics():
    model, before = make_model(), state_bytes(make_model())
    train(model, replace(BUDGET, learning_rate=0.0))
    after = state_bytes(model)
    assert {name for name in before if after[name] != before[name]} == {
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }


def rates(budget, steps):
    total = steps * budget.epochs
    return [learning_rate(budget, step, total) for step in range(total)]


def test_a_constant_rate_stays():
    assert rates(replace(BUDGET, schedule="constant"), 4) == [0.05] * 12


def test_the_cosine_rises_for_a_tenth_then_falls_to_zero_as_torchs_own():
    budget = replace(BUDGET, epochs=4)
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), budget.learning_rate)
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 4, total_iters=3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=36)
    expected = []
    for step in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 3:
            rising.step()
        elif step >= 4:
            falling.step()
    taken = rates(budget, 10)
    assert taken == pytest.approx(expected, rel=1e-6)
    assert max(taken) == pytest.approx(budget.learning_rate)
    assert taken[-1] < 0.003 * budget.learning_rate


def one_step(budget):
    """Weights before and after one step of a linear model, and the gradient, derived in float64."""
    seed_initialisation(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2, bias=False))
    before = model[1].weight.detach().double()
    budget = replace(budget, epochs=1, batch_size=26, schedule="constant", weight_decay=0.1)
    (batch,) = augmented_batches(TRAINING, budget, 0, 0)
    inputs = batch.inputs.flatten(1).double()
    difference = torch.softmax(inputs @ before.T, 1) - nn.functional.one_hot(batch.labels, 2)
    train(model, budget)
    return before, model[1].weight.detach().double(), difference.T @ inputs / 26


@pytest.mark.parametrize(("optimizer", "first"), [("sgd", 1.0), ("nesterov", 1.9)])
def test_momentum_of_nine_tenths_counts_in_the_first_step_in_nesterovs_form(optimizer, first):
    before, after, gradient = one_step(replace(BUDGET, optimizer=optimizer))
    expected = before - 0.05 * first * (gradient + 0.1 * before)
    assert torch.allclose(after, expected, atol=1e-7)


def test_adamw_decays_weights_apart_from_the_gradient():
    before, after, gradient = one_step(replace(BUDGET, optimizer="adamw"))
    expected = before * (1 - 0.05 * 0.1) - 0.05 * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(after, expected, atol=1e-5)


def test_half_precision_computes_in_bfloat16_and_keeps_weights_in_float32():
    seen = []
    model = make_model()
    model[0].register_forward_hook(lambda module, inputs, output: seen.append((module.training, output.dtype)))
    history = train(model, replace(BUDGET, precision="bfloat16", epochs=1))
    assert set(seen) == {(True, torch.bfloat16), (False, torch.bfloat16)}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
    assert math.isfinite(history[0].loss)
    seen.clear()
    evaluate(model, VALIDATION)
    assert seen == [(False, torch.float32)]


class FirstPixel(nn.Module):
    """Tells class 1 where the first red value is at least 128 of 255."""

    def forward(self, images):
        score = images[:, 0, 0, 0] - 127.5 / 255
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("count", [1, 5, EVALUATION_BATCH, 2 * EVALUATION_BATCH + 3])
def test_accuracy_is_the_share_of_right_answers(count):
    random = np.random.default_rng(count)
    pixels = random.integers(0, 256, (count, 2, 2, 3)).astype(np.uint8)
    labels = random.integers(0, 2, count)
    right = sum(int(image[0, 0, 0] >= 128) == label for image, label in zip(pixels, labels, strict=True))
    data = Images.of(Split(pixels, labels), torch.device("cpu"))
    assert len(data) == count
    assert evaluate(FirstPixel(), data) == pytest.approx(100 * right / count, rel=1e-12)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_changes_nothing(mode):
    model = make_model().train(mode)
    before, random = state_bytes(model), torch.get_rng_state()
    evaluate(model, VALIDATION)
    assert state_bytes(model) == before
    assert [module.training for module in model.modules()] == [mode] * 7
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_evaluation_leaves_a_frozen_layer_of_a_training_model_frozen(fails):
    model = make_model()
    model[1].eval()
    flags = [module.training for module in model.modules()]
    assert sorted(set(flags)) == [False, True]
    if fails:
        with pytest.raises(IndexError):
            evaluate(nn.Sequential(model, FirstPixel()), VALIDATION)
    else:
        evaluate(model, VALIDATION)
    assert [module.training for module in model.modules()] == flags


def test_evaluation_uses_bn_statistics_and_no_augmentation():
    model = make_model()
    train(model)
    with torch.no_grad():
        answers = model.eval()(VALIDATION.images.double().div(255).float()).argmax(1)
    assert evaluate(model, VALIDATION) == 100 * float((answers == VALIDATION.labels).double().mean())


def test_images_are_the_splits_own_in_torchs_order():
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    data = Images.of(Split(pixels, np.array([1, 0])), torch.device("cpu"))
    assert data.images.shape == (2, 3, 4, 5)
    assert data.images.is_contiguous(memory_format=torch.channels_last)
    assert data.images[1, 2, 3, 4] == pixels[1, 3, 4, 2]
    assert data.labels.tolist() == [1, 0]


class WithDropout(nn.Module):
    """Draws from torch's global random state in every step."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(make_model(), nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, images):
        return self.layers(images)


def make_with_dropout():
    seed_initialisation(0)
    return WithDropout()


@pytest.mark.parametrize("stop_after", range(1, 9))
@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (make_model, {}),
        (make_with_dropout, {"optimizer": "adamw", "learning_rate": 0.01, "evaluate_every": 2}),
        (make_model, {"precision": "bfloat16", "schedule": "constant"}),
    ],
)
def test_a_training_that_is_interrupted_after_any_step_ends_with_the_same_bytes(make, changes, stop_after):
    budget = replace(BUDGET, **changes)
    whole = make()
    expected = train(whole, budget)
    interrupted = Recorder(stop_after=stop_after)
    with pytest.raises(InterruptionError):
        train(make(), budget, watcher=interrupted)
    torch.rand(7)  # another process has drawn other numbers
    resumed, watcher = make_model(seed=1) if make is make_model else WithDropout(), Recorder(interrupted.snapshot)
    history = train(resumed, budget, watcher=watcher)
    assert history == expected
    assert state_bytes(resumed) == state_bytes(whole)
    assert len(watcher.told) == 9 - stop_after


def test_a_finished_training_is_not_trained_on():
    watcher = Recorder()
    whole = make_model()
    expected = train(whole, watcher=watcher)
    resumed, again = make_model(1), Recorder(watcher.snapshot)
    assert train(resumed, watcher=again) == expected
    assert state_bytes(resumed) == state_bytes(whole)
    assert again.told == []
