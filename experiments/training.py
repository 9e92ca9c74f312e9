"""One loop for training from scratch, fine-tuning and distillation."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.augmentation import apply_view, as_input, draw_view
from experiments.datasets.dataset import Split
from experiments.recipe import Augmentation, Budget

EVALUATION_BATCH = 256


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
class Epoch:
    """What is kept of an epoch; accuracies in percent, loss averaged over steps, time in seconds."""

    epoch: int
    loss: float
    training_accuracy: float
    accuracy: float
    seconds: float


Objective = Callable[[Tensor, Batch], Tensor]
"""Scalar loss of logits (n, classes) on a batch."""

Progress = Callable[[Epoch], None]


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


def augmented_batches(data: Images, budget: Budget, seed: int, epoch: int) -> Iterator[Batch]:
    """Yields an epoch's batches in an order and with augmentation that depend on seed and epoch alone."""
    order = torch.randperm(len(data), generator=seeded_generator(seed, "order", epoch))
    view = epoch % budget.augmentation.views if budget.augmentation.views else epoch
    transforms = view_transforms(budget.augmentation, len(data), seed, view)
    whole = len(data) - len(data) % min(budget.batch_size, len(data))
    for index in torch.split(order[:whole], budget.batch_size):
        at = index.to(data.labels.device)
        yield Batch(view, at, apply_view(data.images[at], transforms[index]), data.labels[at])


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
    progress: Progress,
) -> list[Epoch]:
    """Trains a model in place and evaluates it after every epoch.

    Args:
        model: On the data's device.
        training: What it learns from.
        validation: What it is measured on.
        budget: Epochs, optimizer, schedule, precision and augmentation.
        objective: The loss.
        seed: Decides the order of the images and their augmentation.
        progress: Called after every epoch.

    Raises:
        TrainingError: The loss is not finite.
    """
    model.to(memory_format=torch.channels_last)
    steps = max(1, len(training) // budget.batch_size)
    optimizer, schedule = _optimizer(model, budget, steps)
    history = []
    for epoch in range(budget.epochs):
        start = time.perf_counter()
        model.train()
        loss = torch.zeros((), dtype=torch.float64)
        correct = torch.zeros((), dtype=torch.int64)
        for step, batch in enumerate(augmented_batches(training, budget, seed, epoch)):
            with autocast(batch.inputs.device, budget):
                logits = model(batch.inputs).float()
                value = objective(logits, batch)
            if not math.isfinite(number := value.item()):
                raise TrainingError(f"loss is {number} in epoch {epoch + 1}, step {step + 1} of {steps}")
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            loss += number
            correct += (logits.detach().argmax(1) == batch.labels).sum().cpu()
        seen = steps * min(budget.batch_size, len(training))
        accuracy = evaluate(model, validation, budget)
        seconds = time.perf_counter() - start
        history.append(Epoch(epoch + 1, loss.item() / steps, 100 * correct.item() / seen, accuracy, seconds))
        progress(history[-1])
    return history


def _optimizer(
    model: nn.Module, budget: Budget, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    parameters, rate, decay = model.parameters(), budget.learning_rate, budget.weight_decay
    optimizer: torch.optim.Optimizer
    if budget.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, rate, 0.9, weight_decay=decay, nesterov=True, fused=True)
    else:
        optimizer = torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
    total = steps * budget.epochs
    warm_up = max(1, total // 10)

    def factor(step: int) -> float:
        if budget.schedule == "constant":
            return 1.0
        rising = min(1.0, (step + 1) / warm_up)
        return rising * 0.5 * (1 + math.cos(math.pi * max(0, step - warm_up) / max(1, total - warm_up)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@torch.no_grad()
def evaluate(model: nn.Module, data: Images, budget: Budget | None = None) -> float:
    """Accuracy in percent, in the budget's precision (float32 without one). The training flag is put back."""
    was_training = model.training
    model.eval()
    correct = 0
    for images, labels in zip(
        torch.split(data.images, EVALUATION_BATCH), torch.split(data.labels, EVALUATION_BATCH), strict=True
    ):
        with autocast(images.device, budget):
            correct += int((model(as_input(images)).argmax(1) == labels).sum())
    model.train(was_training)
    return 100 * correct / len(data)


def autocast(device: torch.device, budget: Budget | None) -> torch.autocast:
    """The budget's precision for what is computed inside; float32 without one."""
    enabled = budget is not None and budget.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
