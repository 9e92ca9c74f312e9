"""One loop for training from scratch, fine-tuning and distillation."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compression.layers.evaluation_mode import evaluation_mode
from experiments.augmentation import apply_view, as_input, draw_view
from experiments.datasets.dataset import Split
from experiments.recipe import Augmentation, Budget
from experiments.training_state import Epoch, Position, Snapshot, restore_snapshot, take_snapshot

EVALUATION_BATCH = 64
"""Up to twice as fast as 256 on a CPU, whose caches it fits."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the run and the step."""


@dataclass(frozen=True)
class Images:
    """A split as tensors on the device: uint8 (n, 3, height, width), channels-last, and int64 (n,)."""

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device) -> "Images":
        """Moves a split to the device."""
        pixels = torch.from_numpy(split.images).to(device).permute(0, 3, 1, 2)
        return cls(pixels, torch.from_numpy(split.labels).to(device))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Batch:
    """Some images of a view: `index` (n,) into the split, `inputs` float32 (n, 3, height, width), `labels` (n,)."""

    view: int
    index: Tensor
    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Advance:
    """What has happened in a training since it was last told of.

    Attributes:
        share: Of all steps that are done.
        images: Trained on so far; one counts in every epoch.
        epoch: The one that has just ended, if one has.
    """

    share: float
    images: int
    epoch: Epoch | None


class Watcher(Protocol):
    """Follows a training, and keeps what is needed to go on with it after an interruption."""

    def resume(self) -> Snapshot | None:
        """Where to go on, if the training was interrupted."""

    def advance(self, advance: Advance, take_snapshot: Callable[[], Snapshot]) -> None:
        """Is called after every step, at an epoch's end after its evaluation."""


class Unwatched:
    """The watcher of a training that nobody follows, and that starts anew if it is interrupted."""

    def resume(self) -> None:
        """Nothing was kept."""

    def advance(self, advance: Advance, take_snapshot: Callable[[], Snapshot]) -> None:
        """Nobody is told."""


Objective = Callable[[Tensor, Batch], Tensor]
"""Scalar loss of logits (n, classes) on a batch."""


def seeded_generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator of its own for each purpose, so that drawing more for one changes nothing of another."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def seed_initialisation(seed: int, *purpose: object) -> None:
    """Seeds torch's global random state, which layers draw their first weights from. Call it before building."""
    torch.manual_seed(seeded_generator(seed, "initialisation", *purpose).initial_seed())


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """The objective of training and fine-tuning."""
    return F.cross_entropy(logits, batch.labels)


def augmented_batches(data: Images, budget: Budget, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """Yields an epoch's batches from number `start` on; order and augmentation depend on seed and epoch alone."""
    order = torch.randperm(len(data), generator=seeded_generator(seed, "order", epoch))
    view = epoch % budget.augmentation.views if budget.augmentation.views else epoch
    transforms = view_transforms(budget.augmentation, len(data), seed, view)
    size, steps = _batch_size(data, budget), _steps(data, budget)
    for index in torch.split(order[start * size : steps * size], size):
        at = index.to(data.labels.device)
        yield Batch(view, at, apply_view(data.images[at], transforms[index]), data.labels[at])


def _batch_size(data: Images, budget: Budget) -> int:
    return min(budget.batch_size, len(data))


def _steps(data: Images, budget: Budget) -> int:
    """Of an epoch; a last, smaller batch is left out."""
    return len(data) // _batch_size(data, budget)


def view_transforms(augmentation: Augmentation, count: int, seed: int, view: int) -> Tensor:
    """The transforms of a view's images, float32 (count, 2, 3); see `experiments.augmentation`."""
    return draw_view(augmentation, count, seeded_generator(seed, "augmentation", view))


def fit(
    model: nn.Module,
    training: Images,
    validation: Images,
    budget: Budget,
    objective: Objective,
    seed: int,
    watcher: Watcher,
) -> list[Epoch]:
    """Trains a model in place and evaluates it; resumed after any step, it ends with the same bytes.

    Args:
        model: On the data's device.
        training: What it learns from.
        validation: What it is measured on.
        budget: Epochs, optimizer, schedule, precision, augmentation and evaluations.
        objective: The loss.
        seed: Decides the order of the images and their augmentation.
        watcher: Says where to start, and is told of every step.

    Raises:
        TrainingError: The loss is not finite.
    """
    model.to(memory_format=torch.channels_last)
    optimizer = _optimizer(model, budget)
    snapshot = watcher.resume()
    position = restore_snapshot(snapshot, model, optimizer) if snapshot else Position()
    steps, size = _steps(training, budget), _batch_size(training, budget)

    def tell(epoch: Epoch | None) -> None:
        done = len(position.history) * steps + position.step
        advance = Advance(done / (budget.epochs * steps), done * size, epoch)
        watcher.advance(advance, lambda: take_snapshot(model, optimizer, position))

    for number in range(len(position.history), budget.epochs):
        model.train()
        for batch in augmented_batches(training, budget, seed, number, position.step):
            step = number * steps + position.step
            _set_learning_rate(optimizer, learning_rate(budget, step, steps * budget.epochs))
            _take_step(model, optimizer, objective, batch, budget, position)
            if position.step < steps:
                tell(None)
        position = _end_epoch(position, steps, size, _accuracy_of_epoch(model, validation, budget, number))
        tell(position.history[-1])
    return position.history


def _take_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    batch: Batch,
    budget: Budget,
    position: Position,
) -> None:
    with autocast(batch.inputs.device, budget):
        logits = model(batch.inputs).float()
        loss = objective(logits, batch)
    if not math.isfinite(number := loss.item()):
        raise TrainingError(f"loss is {number} in epoch {len(position.history) + 1}, step {position.step + 1}")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    position.step += 1
    position.loss += number
    position.correct += int((logits.detach().argmax(1) == batch.labels).sum())


def _end_epoch(position: Position, steps: int, size: int, accuracy: float | None) -> Position:
    training_accuracy = 100 * position.correct / (steps * size)
    epoch = Epoch(len(position.history) + 1, position.loss / steps, training_accuracy, accuracy)
    return Position([*position.history, epoch])


def _accuracy_of_epoch(model: nn.Module, validation: Images, budget: Budget, number: int) -> float | None:
    """Counted back from the last epoch, which is always evaluated."""
    due = (budget.epochs - 1 - number) % budget.evaluate_every == 0
    return evaluate(model, validation, budget) if due else None


def _optimizer(model: nn.Module, budget: Budget) -> torch.optim.Optimizer:
    parameters, rate, decay = model.parameters(), budget.learning_rate, budget.weight_decay
    if budget.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
    nesterov = budget.optimizer == "nesterov"
    return torch.optim.SGD(parameters, rate, 0.9, weight_decay=decay, nesterov=nesterov, fused=True)


def learning_rate(budget: Budget, step: int, steps: int) -> float:
    """The schedule's rate in a step, from 0, of so many; see `experiments.recipe.Budget`."""
    if budget.schedule == "constant":
        return budget.learning_rate
    warm_up = max(1, steps // 10)
    rising = min(1.0, (step + 1) / warm_up)
    falling = 0.5 * (1 + math.cos(math.pi * max(0, step - warm_up) / max(1, steps - warm_up)))
    return budget.learning_rate * (rising * falling)


def _set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def evaluate(model: nn.Module, data: Images, budget: Budget | None = None) -> float:
    """Accuracy in percent, in the budget's precision (float32 without one). Training flags are put back."""
    correct = 0
    with evaluation_mode(model):
        for images, labels in zip(
            torch.split(data.images, EVALUATION_BATCH), torch.split(data.labels, EVALUATION_BATCH), strict=True
        ):
            with autocast(images.device, budget):
                correct += int((model(as_input(images)).argmax(1) == labels).sum())
    return 100 * correct / len(data)


def autocast(device: torch.device, budget: Budget | None) -> torch.autocast:
    """The budget's precision for what is computed inside; float32 without one."""
    enabled = budget is not None and budget.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
