"""What the engine is told of our report: profiles, recipes, measures, plots, and how long things take."""

from experiments.plots import PLOTS
from experiments.profiles import DATA, PROFILES, Profile
from experiments.recipes import report_recipes
from pytest_claims.recipes.catalog import Catalog
from pytest_claims.recipes.measure import Measure
from pytest_claims.recipes.profile import Profile as AnyProfile
from pytest_claims.recipes.profile import ProfileRequest

__all__ = ["DATA", "MEASURES", "PLOTS", "PROFILES", "REFERENCE_SECONDS", "recipes"]

MEASURES = (
    Measure("small_weight_share", "%"),
    Measure("relative_error", "%", better="less"),
    Measure("size_error_correlation", decimals=3),
)
"""Of weights that are rounded to 8 bits; see `experiments.builders.quantize`."""

_SECONDS = {
    ("train", "resnet18"): 1.8,
    ("train", "student"): 0.35,
    ("train", "question4"): 0.45,
    ("distill", "student"): 0.65,
    ("distill", "conv_student"): 0.8,
    ("finetune", "question4"): 0.3,
    ("quantize_aware", "question4"): 0.35,
    ("prune", "question4"): 0.25,
    ("factorize", "question4"): 0.2,
    ("rewrite", "question4"): 0.3,
    ("quantize_weights", "question4"): 0.2,
    ("quantize_weights", "student"): 0.25,
    ("quantize_weights", "resnet18"): 2.0,
    ("slim", "student"): 0.25,
    ("slim_finetune", "student"): 0.4,
    ("quantize", "resnet18"): 2.4,
    ("quantize", "student"): 0.4,
    ("import_weights", "resnet18"): 3.0,
}

REFERENCE_SECONDS = {
    (f"experiments.builders.{builder}", f"experiments.models.{model}"): seconds
    for (builder, model), seconds in _SECONDS.items()
}
"""An epoch, or in all without epochs."""


def recipes(profile: AnyProfile, request: ProfileRequest) -> Catalog:
    """Return all recipes of the report under one of our profiles."""
    if not isinstance(profile, Profile):
        raise TypeError(f"profile {profile.name!r} has no budgets; should be one of {', '.join(PROFILES)}")
    return report_recipes(profile, request.pretrained_weights)
