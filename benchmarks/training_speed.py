"""How much faster this suite trains than plain PyTorch, one thread each, alternating in the same process.

    python benchmarks/training_speed.py

Plain: contiguous float32, an unfused optimizer, deterministic algorithms as torch sets them up. Ours: what
`pytest_claims.training.training.fit` does with the default profile's budgets. A row a model: images a second, and their
ratio.
"""

import statistics
import time
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import deterministic

from experiments.models import build_model
from experiments.profiles import PROFILES
from pytest_claims.recipes.profile import ProfileRequest
from pytest_claims.recipes.recipe import Architecture, Budget
from pytest_claims.training.training import Images, Unwatched, augmented_batches, cross_entropy, fit
from pytest_claims.workers.making import make_deterministic

IMAGES = 512
ROUNDS = 5


def random_images(resolution: int) -> Images:
    pixels = torch.randint(0, 256, (IMAGES, resolution, resolution, 3), dtype=torch.uint8)
    return Images(pixels.permute(0, 3, 1, 2), torch.randint(0, 11, (IMAGES,)))


def plain_epoch(model: nn.Module, data: Images, budget: Budget) -> None:
    deterministic.fill_uninitialized_memory = True
    optimizer = torch.optim.SGD(model.parameters(), budget.learning_rate, momentum=0.9, nesterov=True)
    model.train()
    for batch in augmented_batches(data, budget, seed=0, epoch=0):
        loss = F.cross_entropy(model(batch.inputs.contiguous()), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    deterministic.fill_uninitialized_memory = False


def our_epoch(model: nn.Module, data: Images, budget: Budget) -> None:
    few = Images(data.images[:1], data.labels[:1])
    fit(model, data, few, replace(budget, epochs=1), cross_entropy, 0, Unwatched())


def images_per_second(epoch, model: nn.Module, data: Images, budget: Budget) -> float:
    start = time.perf_counter()
    epoch(model, data, budget)
    return IMAGES / (time.perf_counter() - start)


def main() -> None:
    make_deterministic()
    profile = PROFILES["default"](ProfileRequest())
    budgets = {
        "resnet18": (Architecture("experiments.models.resnet18"), profile.budgets.teacher),
        "student": (Architecture("experiments.models.student"), profile.budgets.student),
        "conv_student": (Architecture("experiments.models.conv_student"), profile.budgets.conv_student),
        "question4": (Architecture("experiments.models.question4"), profile.budgets.question4),
    }
    data = random_images(profile.target.resolution)
    print(f"{'model':14} {'plain':>8} {'ours':>8} {'ratio (median, least to most)':>32}")
    for name, (architecture, budget) in budgets.items():
        plain_model, our_model = build_model(architecture, 11), build_model(architecture, 11)
        pairs = [
            (
                images_per_second(plain_epoch, plain_model, data, budget),
                images_per_second(our_epoch, our_model, data, budget),
            )
            for _ in range(ROUNDS + 1)
        ][1:]
        plain, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"{name:14} {plain:8.0f} {ours:8.0f} {spread:>32}")


if __name__ == "__main__":
    main()
