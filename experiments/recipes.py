"""The recipes of the report's models, by the names that claims use.

Those of our own claims are in `method_recipes`, those of controls in `controls.recipes`.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from experiments.controls.recipes import control_recipes
from experiments.method_recipes import method_recipes
from experiments.models.student_widths import pruned_widths
from experiments.profiles import SOURCE, Profile
from pytest_claims.keys.file_hash import file_hash
from pytest_claims.recipes.catalog import Catalog
from pytest_claims.recipes.profile import ProfileError
from pytest_claims.recipes.recipe import Architecture, Recipe, Settings, in_family

RATES = (0.95, 0.9)
"""Question 3's width multipliers for one step."""

STEPS = range(1, 6)
"""Question 3's steps; each prunes the model of the one before."""

REPORT_CLASSES = 11
"""Of Food-11; the report's parameter counts hold for it."""

QUESTION4_PARAMETERS = 250_000
"""One megabyte of float32."""

SMALL_PARAMETERS = QUESTION4_PARAMETERS // 2
"""What question 4's ordinary CNN is compressed to."""


def report_recipes(profile: Profile, pretrained_weights: Path | None = None) -> Catalog:
    """All recipes of the report under a profile.

    Args:
        profile: Gives data and budgets.
        pretrained_weights: A safetensors file of ImageNet's ResNet18 weights, for profiles of real images; without
            one, torchvision's are downloaded.

    Raises:
        ProfileError: The file of weights does not exist.
    """
    recipes = _untrained(profile.resolution)
    recipes |= _teachers_and_students(profile, pretrained_weights)
    recipes |= in_family("quantized", _quantized(recipes))
    recipes |= in_family("pruned student", _pruned(profile, recipes["student-distilled-finetuned"]))
    recipes |= in_family("question 4", _question4(profile))
    cnn, teacher, student = (recipes[n] for n in ("cnn-ordinary", "teacher-finetuned", "student-distilled-finetuned"))
    recipes |= method_recipes(profile.budgets, cnn, teacher, student, half=SMALL_PARAMETERS)
    recipes |= control_recipes(recipes["student-scratch"], student, cnn, recipes["cnn-pruned-random"])
    return Catalog(recipes)


def _untrained(resolution: int) -> dict[str, Recipe]:
    """Architectures whose size the report tells, built for its 11 classes."""
    architectures = {
        "resnet18": Architecture("experiments.models.resnet18"),
        "student": Architecture("experiments.models.student"),
        "conv-student-a": Architecture("experiments.models.conv_student", (("extra", "hidden"),)),
        "conv-student-b": Architecture("experiments.models.conv_student", (("extra", "pointwise"),)),
        "conv-twin": Architecture("experiments.models.conv_student", (("extra", "none"),)),
        "question4-ordinary": _question4_architecture("ordinary"),
        "question4-depthwise": _question4_architecture("depthwise"),
        "question4-group": _question4_architecture("group"),
    }
    for rate in RATES:
        architectures |= {f"student-{rate}-{step}": _pruned_student(rate, step) for step in STEPS}
    size: Settings = (("classes", REPORT_CLASSES), ("resolution", resolution))
    return {
        name: Recipe("experiments.builders.initialize", architecture, settings=size, shared=True)
        for name, architecture in architectures.items()
    }


def _teachers_and_students(profile: Profile, pretrained_weights: Path | None) -> dict[str, Recipe]:
    budgets = profile.budgets
    teacher, student = Architecture("experiments.models.resnet18"), Architecture("experiments.models.student")
    backbone = _backbone(profile, pretrained_weights)
    scratch = Recipe("experiments.builders.train", teacher, "target", budgets.teacher)
    finetuned = Recipe(
        "experiments.builders.train", teacher, "target", budgets.fine_tune, parents=(("initial", backbone),)
    )
    distillation: Settings = tuple(vars(profile.distillation).items())

    def distilled(source: Recipe) -> Recipe:
        return Recipe(
            "experiments.builders.distill", student, "target", budgets.student, distillation, (("teacher", source),)
        )

    conv_student = Recipe(
        "experiments.builders.distill",
        Architecture("experiments.models.conv_student", (("extra", "hidden"),)),
        "target",
        budgets.conv_student,
        distillation,
        (("teacher", finetuned),),
    )
    students = {
        "student-scratch": Recipe("experiments.builders.train", student, "target", budgets.student),
        "student-distilled-scratch": distilled(scratch),
        "student-distilled-finetuned": distilled(finetuned),
    }
    return {
        "backbone": backbone,
        **in_family("teacher", {"teacher-scratch": scratch, "teacher-finetuned": finetuned}),
        **in_family("student", students),
        **in_family("convolutional student", {"conv-student-distilled": conv_student}),
    }


def _backbone(profile: Profile, pretrained_weights: Path | None) -> Recipe:
    """What the fine-tuned teacher starts from: one run for all seeds, as ImageNet's is."""
    architecture = Architecture("experiments.models.resnet18")
    if SOURCE in profile.datasets:
        return Recipe("experiments.builders.train", architecture, "source", profile.budgets.pretrain, shared=True)
    if pretrained_weights is None:
        settings: Settings = (("torchvision", "IMAGENET1K_V1"),)
    else:
        _check_readable(pretrained_weights)
        settings = (("sha256", file_hash(pretrained_weights)),)
    return Recipe("experiments.builders.import_weights", architecture, settings=settings, shared=True)


def _check_readable(weights: Path) -> None:
    """Tells now what would else end a run, and all that are made from it."""
    if not weights.is_file():
        raise ProfileError(f"--pretrained-weights {weights}: there is no such file")
    try:
        with safe_open(weights, "numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise ProfileError(f"--pretrained-weights {weights}: no readable safetensors file ({error})") from error


def _quantized(recipes: dict[str, Recipe]) -> dict[str, Recipe]:
    originals = {"teacher-finetuned": (8,), "student-distilled-finetuned": (16, 8)}
    return {
        f"{name}-{bits}bit": Recipe(
            "experiments.builders.quantize",
            recipes[name].architecture,
            "target",
            settings=(("bits", bits),),
            parents=(("original", recipes[name]),),
        )
        for name, all_bits in originals.items()
        for bits in all_bits
    }


def _pruned(profile: Profile, start: Recipe) -> dict[str, Recipe]:
    """Question 3's steps under both protocols: BN re-estimation alone (`bn`), and real fine-tuning (`tuned`)."""
    protocols = {
        "bn": ("experiments.builders.slim", profile.budgets.slim),
        "tuned": ("experiments.builders.slim_finetune", profile.budgets.slim_fine_tune),
    }
    recipes = {}
    for rate in RATES:
        for protocol, (builder, budget) in protocols.items():
            original = start
            for step in STEPS:
                architecture = _pruned_student(rate, step)
                parents = (("original", original),)
                original = Recipe(builder, architecture, "target", budget, (), parents, curve=f"{rate} {protocol}")
                recipes[f"pruned-{rate}-{step}-{protocol}"] = original
    return recipes


def _pruned_student(rate: float, step: int) -> Architecture:
    return Architecture("experiments.models.student", (("widths", pruned_widths(rate, step)),))


def _question4(profile: Profile) -> dict[str, Recipe]:
    architectures = {
        "ordinary": _question4_architecture("ordinary"),
        "depthwise": _question4_architecture("depthwise"),
        "group": _question4_architecture("group"),
        "ordinary-small": _question4_architecture("ordinary", SMALL_PARAMETERS),
    }
    return {
        f"cnn-{name}": Recipe("experiments.builders.train", architecture, "target", profile.budgets.question4)
        for name, architecture in architectures.items()
    }


def _question4_architecture(kind: str, parameters: int = QUESTION4_PARAMETERS) -> Architecture:
    return Architecture("experiments.models.question4", (("kind", kind), ("parameters", parameters)))


def pruning_curve(rate: float, protocol: str) -> list[str]:
    """The names of a curve of question 3, from the start to the last step."""
    return ["student-distilled-finetuned", *(f"pruned-{rate}-{step}-{protocol}" for step in STEPS)]
