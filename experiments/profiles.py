"""Profiles: data set, budgets and seeds, chosen by one option.

Budgets and the fractal images' difficulty were set on seeds from 100 up, by absolute accuracy alone: near the
published one where the time allows. There are few training images of little noise, so that pre-training and size
count: with 250 a class and four times the noise every model ended near 78 %, limited by the noise. At seeds 100 to
102, in percent: teacher from scratch 77 (published: 80.1), fine-tuned 89.6 (88.4), student alone 81.5 (78.2),
distilled from the fine-tuned teacher 84.0 (83.5), convolutional student 83.4 (82.7).

What else was tried there: twice the student's epochs gain 3.8 points; twice the backbone's, with half as many again
of fine-tuning, gained 5 for the fine-tuned teacher, from 8 epochs and 10. A teacher from scratch at twice the rate is
3 points worse. Of question 4's networks, batches of 32 in place of 64 gain 2 points. Averages of the last weights
(exponential, decay 0.98) change accuracies by -0.3 to 0.3 points: a rate that falls to zero does the same.

A profile is the same experiment on every machine: nothing in it, precision included, depends on what it runs on.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pytest_claims.datasets.fractal import FractalSpec
from pytest_claims.datasets.preparation import FolderSpec, ResampledSpec
from pytest_claims.recipes.profile import Profile as AnyProfile
from pytest_claims.recipes.profile import ProfileError, ProfileMaker, ProfileRequest
from pytest_claims.recipes.recipe import TARGET, Augmentation, Budget

DATA = ("fractal", "image-folder", "food-11")
"""What profiles are measured on, and what claims are about."""

FOOD11_IMAGES = (9_866, 3_430)
"""Of the training and the validation split."""

SOURCE = "source"
"""The role of the images that the backbone is pre-trained on; without them it has ImageNet's weights."""


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
class Profile(AnyProfile):
    """What our claims are judged on; its data are the `target` and, where a backbone is pre-trained, the `source`.

    Attributes:
        budgets: Of all trainings.
        distillation: Of all students.
    """

    budgets: Budgets
    distillation: Distillation

    @property
    def resolution(self) -> int:
        """Height and width of the target's images in pixels."""
        target = self.target.images if isinstance(self.target, ResampledSpec) else self.target
        if isinstance(target, FractalSpec | FolderSpec):
            return target.resolution
        raise ProfileError(f"profile {self.name}: its images should be drawn, or in a folder")


_TURNED = Augmentation(shift=0.06, rotation=15.0, flip=False, views=10)
"""Not mirrored: a fractal's mirror image is none of its class."""


def _refusing(maker: Callable[[], Profile]) -> ProfileMaker:
    """A profile that draws its own images, and refuses options for folders of them."""

    def make(request: ProfileRequest) -> Profile:
        profile = maker()
        request.refuse_unused(profile.name, "it draws its own images; --profile images takes a folder")
        return profile

    return make


def _default() -> Profile:
    """Fractal images of 32 px, 60 of each class to learn from, five seeds."""
    convolutional = Budget(
        epochs=20,
        batch_size=32,
        optimizer="nesterov",
        learning_rate=0.05,
        weight_decay=1e-2,
        schedule="cosine",
        precision="float32",
        augmentation=_TURNED,
        evaluate_every=30,
    )
    student = replace(convolutional, epochs=30, batch_size=64, learning_rate=0.1, weight_decay=5e-3)
    budgets = Budgets(
        pretrain=replace(convolutional, epochs=12, batch_size=64),
        teacher=convolutional,
        fine_tune=replace(convolutional, epochs=15, learning_rate=0.02, weight_decay=5e-3),
        student=student,
        conv_student=convolutional,
        question4=replace(convolutional, epochs=30),
        recover=replace(convolutional, epochs=6, learning_rate=0.02),
        slim=replace(student, epochs=3),
        slim_fine_tune=replace(student, epochs=6, learning_rate=0.003),
    )
    target = FractalSpec(
        first_class=0,
        classes=11,
        training_per_class=60,
        validation_per_class=400,
        resolution=32,
        jitter=0.5,
        noise=0.1,
    )
    source = replace(target, first_class=1000, classes=100, validation_per_class=10)
    return Profile(
        name="default",
        data="fractal",
        datasets={TARGET: target, SOURCE: source},
        seeds=tuple(range(5)),
        minutes=23.0,
        budgets=budgets,
        distillation=Distillation(temperature=4.0, alpha=0.9),
    )


def _shorter(profile: Profile, name: str, epochs: int, seeds: tuple[int, ...], fastest: float = math.inf) -> Profile:
    def shorter(budget: Budget) -> Budget:
        return replace(budget, epochs=min(budget.epochs, epochs), learning_rate=min(budget.learning_rate, fastest))

    budgets = Budgets(**{field: shorter(budget) for field, budget in vars(profile.budgets).items()})
    return replace(profile, name=name, seeds=seeds, minutes=None, budgets=budgets)


def _with_images(profile: Profile, change: Callable[[FractalSpec], FractalSpec]) -> Profile:
    """The profile with other fractal images, of its target's number of classes in both roles."""
    specs = {role: spec for role, spec in profile.datasets.items() if isinstance(spec, FractalSpec)}
    return replace(profile, datasets={role: replace(change(spec), classes=11) for role, spec in specs.items()})


def _quick() -> Profile:
    """Easier images than the default's, one seed: shows that everything learns, decides nothing."""
    profile = _shorter(_default(), "quick", epochs=6, seeds=(0,))

    def easier(spec: FractalSpec) -> FractalSpec:
        return replace(spec, validation_per_class=80, jitter=0.3)

    return _with_images(profile, easier)


def _tiny() -> Profile:
    """The smallest that runs every operation, two seeds: for the suite's own end-to-end test.

    Not below 32 px: at 16, ResNet18's last stage has 1x1 inputs, of which oneDNN's bfloat16 weight gradient of a 3x3
    convolution with stride 2 reads memory that nobody wrote.
    """
    # An epoch's few steps have no room for a warm-up, without which the students diverge at their full rate.
    profile = _shorter(_default(), "tiny", epochs=1, seeds=(0, 1), fastest=0.02)
    return _with_images(profile, lambda spec: replace(spec, training_per_class=12, validation_per_class=12))


def _images(request: ProfileRequest) -> Profile:
    """A folder of real images at 64 px, three seeds; ImageNet's weights for the fine-tuned teacher."""
    mirrored = replace(_TURNED, flip=True, views=6)
    teacher = Budget(
        epochs=12,
        batch_size=64,
        optimizer="nesterov",
        learning_rate=0.05,
        weight_decay=5e-4,
        schedule="cosine",
        precision="float32",
        augmentation=mirrored,
        evaluate_every=8,
    )
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
        _default(),
        name="images",
        data="image-folder",
        datasets={TARGET: _folder(request, "images", 64)},
        seeds=(0, 1, 2),
        minutes=None,
        budgets=budgets,
    )


def _food11(request: ProfileRequest) -> Profile:
    """The report's own protocol on Food-11: 256 px, SGD at a constant rate; for a GPU and patience."""
    base = _default()
    augmentation = Augmentation(shift=0.06, rotation=15.0, flip=True, views=0)
    report = Budget(
        epochs=300,
        batch_size=32,
        optimizer="sgd",
        learning_rate=1e-2,
        weight_decay=0.0,
        schedule="constant",
        precision="float32",
        augmentation=augmentation,
    )
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
        datasets={TARGET: _folder(request, "food11", 256, expected=FOOD11_IMAGES)},
        seeds=tuple(range(5)),
        minutes=None,
        budgets=budgets,
        distillation=Distillation(temperature=20.0, alpha=0.5),
    )


def _folder(request: ProfileRequest, name: str, resolution: int, expected: tuple[int, int] | None = None) -> FolderSpec:
    if request.data_root is None:
        raise ProfileError(f"--profile {name}: needs --data-root, the folder that holds training/ and validation/")
    return FolderSpec(request.data_root, resolution, request.skip_bad_images, expected)


PROFILES: Mapping[str, ProfileMaker] = {
    "default": _refusing(_default),
    "quick": _refusing(_quick),
    "tiny": _refusing(_tiny),
    "images": _images,
    "food11": _food11,
}
"""Every profile by name."""
