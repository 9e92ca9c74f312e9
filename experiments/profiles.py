"""Profiles: data set, budgets and seeds, chosen by one option.

Budgets and the fractal images' difficulty were set on seeds from 100 up, by absolute accuracy alone. There are few
training images of little noise, so that pre-training and size count: with 250 a class and four times the noise every
model ended near 78 %, limited by the noise. At seeds 100 and 101 the teacher reaches 78.7 and 76.8 % from scratch, 88.9
and 88.3 % pre-trained. The student's peak rate is 0.1: at 0.2 one of its trainings diverged.

A profile is the same experiment on every machine: nothing in it, precision included, depends on what it runs on.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from experiments.datasets.fractal import FractalSpec
from experiments.datasets.preparation import FolderSpec
from experiments.recipe import Augmentation, Budget

DataName = Literal["fractal", "image-folder", "food-11"]
"""What profiles are measured on, and what claims are about."""


class ProfileError(ValueError):
    """A profile cannot be used as asked; the message says what is missing."""


@dataclass(frozen=True)
class Distillation:
    """Temperature, and the weight of the teacher's part in the loss; see `compression.distillation.logits`."""

    temperature: float
    alpha: float


@dataclass(frozen=True)
class Budgets:
    """A budget for each kind of training; `recover` follows our compressions, `slim` only estimates BN statistics."""

    pretrain: Budget
    teacher: Budget
    fine_tune: Budget
    student: Budget
    conv_student: Budget
    question4: Budget
    recover: Budget
    slim: Budget
    slim_fine_tune: Budget


@dataclass(frozen=True)
class Profile:
    """What the claims are judged on.

    Attributes:
        name: Of the option, and of the records in `expected_results.json`.
        data: Whose numbers these are; a claim on a number published for other data is not applicable.
        target: The images that models are trained and measured on.
        source: The images that the backbone is pre-trained on; None where ImageNet's weights are used.
        seeds: Each is one repetition of everything.
        budgets: Of all trainings.
        distillation: Of all students.
    """

    name: str
    data: DataName
    target: FractalSpec | FolderSpec
    source: FractalSpec | None
    seeds: tuple[int, ...]
    budgets: Budgets
    distillation: Distillation


@dataclass(frozen=True)
class ProfileRequest:
    """What a profile is made from: options of the command line."""

    data_root: Path | None = None
    skip_bad_images: bool = False
    pretrained_weights: Path | None = None


def make_profile(name: str, request: ProfileRequest) -> Profile:
    """Makes the profile of a name.

    Raises:
        ProfileError: There is none of this name, it needs an option that is missing, or has no use for one.
    """
    if name not in PROFILES:
        raise ProfileError(f"--profile {name}: there is none of this name; choose from {', '.join(PROFILES)}")
    profile = PROFILES[name](request)
    if isinstance(profile.target, FractalSpec):
        _check_unused(name, request)
    return profile


def _check_unused(name: str, request: ProfileRequest) -> None:
    """A folder of images that nobody looks at is a profile forgotten."""
    for option in ("data_root", "pretrained_weights", "skip_bad_images"):
        if getattr(request, option):
            raise ProfileError(
                f"--profile {name}: draws its own images and has no use for --{option.replace('_', '-')}; "
                "--profile images takes a folder of images"
            )


_TURNED = Augmentation(shift=0.06, rotation=15.0, flip=False, views=10)
"""Not mirrored: a fractal's mirror image is none of its class."""


def _default(request: ProfileRequest) -> Profile:
    """Fractal images of 32 px, 60 of each class to learn from, five seeds."""
    teacher = Budget(30, 64, "nesterov", 0.05, 1e-2, "cosine", "float32", _TURNED, evaluate_every=30)
    student = Budget(30, 64, "nesterov", 0.1, 5e-3, "cosine", "float32", _TURNED, evaluate_every=30)
    convolutional = Budget(30, 64, "nesterov", 0.05, 1e-2, "cosine", "float32", _TURNED, evaluate_every=30)
    budgets = Budgets(
        pretrain=replace(teacher, epochs=8),
        teacher=teacher,
        fine_tune=replace(teacher, epochs=15, learning_rate=0.02, weight_decay=5e-3),
        student=student,
        conv_student=convolutional,
        question4=convolutional,
        recover=replace(convolutional, epochs=8, learning_rate=0.02),
        slim=replace(student, epochs=3),
        slim_fine_tune=replace(student, epochs=6, learning_rate=0.003),
    )
    target = FractalSpec(0, 11, 60, 180, 32, jitter=0.5, noise=0.1)
    source = replace(target, first_class=1000, classes=100, validation_per_class=10)
    return Profile("default", "fractal", target, source, tuple(range(5)), budgets, Distillation(4.0, 0.9))


def _shorter(profile: Profile, name: str, epochs: int, seeds: tuple[int, ...], fastest: float = math.inf) -> Profile:
    def shorter(budget: Budget) -> Budget:
        return replace(budget, epochs=min(budget.epochs, epochs), learning_rate=min(budget.learning_rate, fastest))

    budgets = Budgets(**{field: shorter(budget) for field, budget in vars(profile.budgets).items()})
    return replace(profile, name=name, seeds=seeds, budgets=budgets)


def _with_images(profile: Profile, change: Callable[[FractalSpec], FractalSpec]) -> Profile:
    if not isinstance(profile.target, FractalSpec) or profile.source is None:
        raise TypeError("only fractal images can be changed")
    return replace(profile, target=change(profile.target), source=replace(change(profile.source), classes=11))


def _quick(request: ProfileRequest) -> Profile:
    """Easier images than the default's, one seed: shows that everything learns, decides nothing."""
    profile = _shorter(_default(request), "quick", epochs=6, seeds=(0,))

    def easier(spec: FractalSpec) -> FractalSpec:
        return replace(spec, validation_per_class=80, jitter=0.3)

    return _with_images(profile, easier)


def _tiny(request: ProfileRequest) -> Profile:
    """The smallest that runs every operation, two seeds: for the suite's own end-to-end test.

    Not below 32 px: at 16, ResNet18's last stage has 1x1 inputs, of which oneDNN's bfloat16 weight gradient of a 3x3
    convolution with stride 2 reads memory that nobody wrote.
    """
    # An epoch's few steps have no room for a warm-up, without which the students diverge at their full rate.
    profile = _shorter(_default(request), "tiny", epochs=1, seeds=(0, 1), fastest=0.02)
    return _with_images(profile, lambda spec: replace(spec, training_per_class=12, validation_per_class=12))


def _images(request: ProfileRequest) -> Profile:
    """A folder of real images at 64 px, three seeds; ImageNet's weights for the fine-tuned teacher."""
    mirrored = replace(_TURNED, flip=True, views=6)
    teacher = Budget(12, 64, "nesterov", 0.05, 5e-4, "cosine", "float32", mirrored, evaluate_every=8)
    student = replace(teacher, epochs=24, learning_rate=0.1, evaluate_every=9)
    convolutional = replace(teacher, epochs=10, evaluate_every=5)
    budgets = Budgets(
        pretrain=teacher,
        teacher=teacher,
        fine_tune=replace(teacher, epochs=8, learning_rate=0.02),
        student=student,
        conv_student=replace(convolutional, epochs=12),
        question4=convolutional,
        recover=replace(convolutional, epochs=3, learning_rate=0.02),
        slim=replace(student, epochs=1),
        slim_fine_tune=replace(student, epochs=2, learning_rate=0.003),
    )
    return replace(
        _default(request),
        name="images",
        data="image-folder",
        target=_folder(request, "images", 64),
        source=None,
        seeds=(0, 1, 2),
        budgets=budgets,
    )


def _food11(request: ProfileRequest) -> Profile:
    """The report's own protocol on Food-11: 256 px, SGD at a constant rate; for a GPU and patience."""
    base = _default(request)
    augmentation = Augmentation(shift=0.06, rotation=15.0, flip=True, views=0)
    report = Budget(300, 32, "sgd", 1e-2, 0.0, "constant", "float32", augmentation)
    budgets = Budgets(
        pretrain=report,
        teacher=report,
        fine_tune=replace(report, epochs=100, learning_rate=1e-3),
        student=report,
        conv_student=report,
        question4=report,
        recover=replace(report, epochs=50, learning_rate=1e-3),
        slim=replace(report, epochs=5),
        slim_fine_tune=replace(report, epochs=5, optimizer="adamw", learning_rate=1e-3),
    )
    return replace(
        base,
        name="food11",
        data="food-11",
        target=_folder(request, "food11", 256),
        source=None,
        seeds=(0, 1, 2),
        budgets=budgets,
        distillation=Distillation(temperature=20.0, alpha=0.5),
    )


def _folder(request: ProfileRequest, name: str, resolution: int) -> FolderSpec:
    if request.data_root is None:
        raise ProfileError(f"--profile {name}: needs --data-root, the folder that holds training/ and validation/")
    return FolderSpec(request.data_root, resolution, request.skip_bad_images)


PROFILES: Mapping[str, Callable[[ProfileRequest], Profile]] = {
    "default": _default,
    "quick": _quick,
    "tiny": _tiny,
    "images": _images,
    "food11": _food11,
}
"""Every profile by name."""
