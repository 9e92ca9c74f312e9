"""Our own report, as tests of the engine use it."""

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.profile import Profile, ProfileRequest
from pytest_claims.recipes.project import ProjectPlace, load_project
from pytest_claims.suite.judging import Finding

OURS = ProjectPlace("experiments.project", (ROOT,))


def make_profile(name: str, request: ProfileRequest) -> Profile:
    return load_project(OURS).profile(name, request)


def make_finding(claim, verdict, judgement, runs, reason=""):
    """A finding of a claim on a measure that our project knows."""
    return Finding(claim, load_project(OURS).measures[claim.measure], verdict, judgement, runs, reason)


def operation(recipe):
    """The name of the module of ours that makes a recipe, such as `train`."""
    return recipe.builder.removeprefix("experiments.builders.")


def family(architecture):
    """The name of the module of ours that has an architecture, such as `student`."""
    return architecture.module.removeprefix("experiments.models.")
