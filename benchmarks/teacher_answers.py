"""What keeping a frozen teacher's answers saves: epochs of distillation with and without, alternating in one process.

    python benchmarks/teacher_answers.py

Without: the teacher answers every batch anew. First: `experiments.workbench.teaching` answers a view as a whole
when it is first asked for. Kept: a later epoch on the same view. A row a student; seconds an epoch, and ratios to
"without".
"""

import statistics
import time

import torch
from torch import Tensor, nn

from compression.distillation.logits import distillation_loss
from experiments.models import build_model
from experiments.workbench.teaching import FrozenTeacher, distillation
from pytest_claims.recipes.recipe import Architecture, Augmentation, Budget
from pytest_claims.training.training import Batch, Images, Objective, Unwatched, autocast, cross_entropy, fit
from pytest_claims.workers.making import make_deterministic

IMAGES = 256
RESOLUTION = 32
ROUNDS = 3
BUDGET = Budget(1, 64, "sgd", 0.01, 0.0, "constant", "float32", Augmentation(0.1, 15.0, True, 1))


def random_images() -> Images:
    pixels = torch.randint(0, 256, (IMAGES, RESOLUTION, RESOLUTION, 3), dtype=torch.uint8)
    return Images(pixels.permute(0, 3, 1, 2), torch.randint(0, 11, (IMAGES,)))


def answering_anew(teacher: nn.Module) -> Objective:
    def objective(logits: Tensor, batch: Batch) -> Tensor:
        with torch.no_grad(), autocast(batch.inputs.device, BUDGET):
            answers = teacher(batch.inputs).float()
        return distillation_loss(logits, answers, batch.labels)

    return objective


def epoch_seconds(student: nn.Module, data: Images, objective: Objective) -> float:
    few = Images(data.images[:1], data.labels[:1])
    start = time.perf_counter()
    fit(student, data, few, BUDGET, objective, 0, Unwatched())
    return time.perf_counter() - start


def measured_round(student: nn.Module, teacher: nn.Module, data: Images) -> dict[str, float]:
    keeping = distillation(FrozenTeacher(teacher, data, BUDGET, 0), 20.0, 0.5)
    return {
        "without": epoch_seconds(student, data, answering_anew(teacher)),
        "first": epoch_seconds(student, data, keeping),
        "kept": epoch_seconds(student, data, keeping),
        "no teacher": epoch_seconds(student, data, cross_entropy),
    }


def main() -> None:
    make_deterministic()
    data = random_images()
    teacher = build_model(Architecture("experiments.models.resnet18"), 11).to(memory_format=torch.channels_last).eval()
    print(f"{'student':14} {'without':>8} {'first':>8} {'kept':>8} {'no teacher':>11} {'kept / without':>28}")
    for name in ("student", "resnet18"):
        student = build_model(Architecture(name), 11)
        rounds = [measured_round(student, teacher, data) for _ in range(ROUNDS + 1)][1:]
        medians = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        ratios = sorted(each["kept"] / each["without"] for each in rounds)
        columns = " ".join(f"{medians[key]:{width}.2f}" for key, width in zip(medians, (8, 8, 8, 11), strict=True))
        print(f"{name:14} {columns} {statistics.median(ratios):13.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
