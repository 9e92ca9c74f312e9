import pytest
import torch
from our_project import family, make_profile, operation

from compression.cost import parameter_count
from experiments.models import build_model
from experiments.recipes import REPORT_CLASSES, report_recipes
from pytest_claims.claims.claims_file import load_claims
from pytest_claims.claims.counts import ParametersClaim
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.profile import ProfileRequest
from pytest_claims.recipes.recipe import Architecture

RECIPES = report_recipes(make_profile("default", ProfileRequest()))
EXACT = {
    model: claim
    for claim in load_claims(ROOT / "expected_results.json").claims
    if isinstance(claim, ParametersClaim) and claim.measure == "parameters"
    for model in claim.models
}
ARCHITECTURES = list(dict.fromkeys(recipe.architecture for recipe in RECIPES.values()))


def build(architecture, classes=REPORT_CLASSES):
    with torch.device("meta"):
        return build_model(architecture, classes)


@pytest.mark.parametrize("name", EXACT)
def test_a_model_has_as_many_parameters_as_the_report_says(name):
    claim = EXACT[name]
    count = parameter_count(build(RECIPES[name].architecture))
    if claim.equals is None:
        assert claim.at_least <= count <= claim.at_most
    else:
        assert count == claim.equals


def test_all_of_the_reports_counts_are_looked_at():
    sizes = {name for name, recipe in RECIPES.items() if operation(recipe) == "initialize"}
    assert set(EXACT) == sizes


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=[f"{family(a)}-{i}" for i, a in enumerate(ARCHITECTURES)])
@pytest.mark.parametrize(("classes", "size"), [(3, (32, 32)), (11, (16, 24))])
def test_a_model_gives_a_logit_for_each_class(architecture, classes, size):
    model = build(architecture, classes)
    assert model(torch.empty(2, 3, *size, device="meta")).shape == (2, classes)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if family(a) != "resnet18"][::5])
def test_torchs_random_state_decides_the_first_weights(architecture):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = build_model(architecture, 2)
        states.append([value.numpy().tobytes() for value in model.state_dict().values()])
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())
    assert states[0] == states[1] != states[2]


def test_an_unknown_family_or_option_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"experiments\.models\.vgg"):
        build_model(Architecture("experiments.models.vgg"), 2)
    with pytest.raises(TypeError, match="depth"):
        build_model(Architecture("experiments.models.student", (("depth", 3),)), 2)


def test_every_family_is_used():
    families = {path.stem for path in (ROOT / "experiments/models").glob("*.py")} - {"__init__", "student_widths"}
    assert families == {family(architecture) for architecture in ARCHITECTURES}
