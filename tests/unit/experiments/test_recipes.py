import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from our_project import OURS, family, make_profile, operation
from safetensors.numpy import save_file

from experiments.builders import factorize, prune
from experiments.method_recipes import CRITERIA, RANKS
from experiments.plots.pruning import PROTOCOLS
from experiments.profiles import DATA, PROFILES
from experiments.recipes import RATES, REPORT_CLASSES, STEPS, pruning_curve, report_recipes
from pytest_claims.claims.claims_file import check_names, load_claims
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.profile import ProfileError, ProfileRequest
from pytest_claims.recipes.project import load_project


def make_catalog(name, tmp_path, weights=None):
    folder = tmp_path if name in ("images", "food11") else None
    return report_recipes(make_profile(name, ProfileRequest(data_root=folder)), weights)


@pytest.fixture(params=PROFILES)
def catalog(request, tmp_path):
    return make_catalog(request.param, tmp_path)


@pytest.fixture
def default(tmp_path):
    return make_catalog("default", tmp_path)


def test_every_model_that_a_claim_names_has_a_recipe(catalog):
    check_names(load_claims(ROOT / "expected_results.json"), catalog, load_project(OURS).measures, DATA, PROFILES)


def test_every_recipe_has_a_builder_and_a_model_family(catalog):
    for recipe in catalog.values():
        assert (ROOT / f"{recipe.builder.replace('.', '/')}.py").is_file()
        assert (ROOT / f"experiments/models/{family(recipe.architecture)}.py").is_file()


def test_every_recipe_makes_a_run_and_comes_after_its_parents(catalog):
    seen = []
    for name, recipe in catalog.items():
        assert catalog.run(name, 1).recipe is recipe
        assert all(parent in seen for _, parent in recipe.parents)
        seen.append(recipe)


def test_no_two_names_are_one_recipe_but_equal_architectures(catalog):
    # Where a profile's students train for one epoch, the control that does is one of them.
    trained = [
        recipe for name, recipe in catalog.items() if operation(recipe) != "initialize" and name != "student-one-epoch"
    ]
    assert len(set(trained)) == len(trained)


def test_only_what_has_no_seed_of_its_own_is_shared(catalog):
    shared = {name for name, recipe in catalog.items() if recipe.shared}
    assert shared == {"backbone", *(name for name, recipe in catalog.items() if operation(recipe) == "initialize")}


def test_budgets_and_distillation_are_the_profiles(default):
    profile = make_profile("default", ProfileRequest())
    budgets = profile.budgets
    expected = {
        "backbone": budgets.pretrain,
        "teacher-scratch": budgets.teacher,
        "teacher-finetuned": budgets.fine_tune,
        "student-scratch": budgets.student,
        "student-distilled-finetuned": budgets.student,
        "conv-student-distilled": budgets.conv_student,
        "cnn-group": budgets.question4,
        "cnn-pruned-taylor": budgets.slim,
        "cnn-pruned-taylor-tuned": budgets.recover,
        "cnn-2bit-tuned": budgets.recover,
        "pruned-0.9-2-bn": budgets.slim,
        "pruned-0.9-2-tuned": budgets.slim_fine_tune,
    }
    assert {name: default[name].budget for name in expected} == expected
    distilled = [recipe for recipe in default.values() if operation(recipe) == "distill"]
    assert len(distilled) == 3
    assert all(dict(recipe.settings) == vars(profile.distillation) for recipe in distilled)


def test_compared_models_differ_in_nothing_but_what_is_compared(default):
    scratch, distilled = default["student-scratch"], default["student-distilled-scratch"]
    assert (scratch.architecture, scratch.budget, scratch.data) == (
        distilled.architecture,
        distilled.budget,
        distilled.data,
    )
    kinds = [default[f"cnn-{kind}"] for kind in ("ordinary", "depthwise", "group")]
    assert len({recipe.budget for recipe in kinds}) == 1
    assert len({dict(recipe.architecture.options)["parameters"] for recipe in kinds}) == 1


def test_sizes_are_told_for_the_reports_classes_and_the_profiles_resolution(catalog):
    resolutions = set()
    for recipe in catalog.values():
        if operation(recipe) == "initialize":
            assert dict(recipe.settings)["classes"] == REPORT_CLASSES
            assert (recipe.data, recipe.budget) == (None, None)
            resolutions.add(dict(recipe.settings)["resolution"])
    assert len(resolutions) == 1


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("protocol", ["bn", "tuned"])
def test_a_pruning_curve_prunes_the_step_before(default, rate, protocol):
    curve = pruning_curve(rate, protocol)
    assert len(curve) == 1 + len(STEPS)
    for before, after in pairwise(curve):
        assert dict(default[after].parents) == {"original": default[before]}
    widths = [dict(default[name].architecture.options)["widths"] for name in curve[1:]]
    assert all(sum(b) < sum(a) for a, b in pairwise(widths))
    assert [default[f"student-{rate}-{step}"].architecture for step in STEPS] == [
        default[name].architecture for name in curve[1:]
    ]


def test_the_protocols_differ_in_their_operation(default):
    assert {operation(default[f"pruned-0.9-{step}-bn"]) for step in STEPS} == {"slim"}
    assert {operation(default[f"pruned-0.9-{step}-tuned"]) for step in STEPS} == {"slim_finetune"}


def test_a_quantized_model_keeps_its_original(default):
    quantized = {name: recipe for name, recipe in default.items() if operation(recipe) == "quantize"}
    assert quantized
    for name, recipe in quantized.items():
        original, _, bits = name.rpartition("-")
        assert dict(recipe.parents) == {"original": default[original]}
        assert recipe.architecture == default[original].architecture
        assert bits == f"{dict(recipe.settings)['bits']}bit"


def test_what_recipes_choose_from_is_what_builders_know():
    assert set(CRITERIA) == set(prune.CRITERIA)
    assert set(RANKS) == set(factorize.RANKS)


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_prune_the_same_model_to_the_same_size(default, name):
    recipe, random = default[f"cnn-pruned-{name}"], default["cnn-pruned-random"]
    assert dict(recipe.parents) == {"original": default["cnn-ordinary"]}
    assert replace(recipe, settings=()) == replace(random, settings=())
    assert dict(recipe.settings) == {**dict(random.settings), "criterion": name}


def test_a_fitted_rewriting_differs_from_a_random_one_in_its_weights_alone(default):
    for kind in ("grouped", "separable"):
        fitted, random = (dict(default[f"cnn-{kind}-{weights}"].settings) for weights in ("fitted", "random"))
        assert fitted == {**random, "weights": "fitted"}
        assert default[f"cnn-{kind}-fitted-tuned"].budget == default[f"cnn-{kind}-random-tuned"].budget


def test_what_is_tuned_is_tuned_after_it_was_measured(default):
    tuned = {name: recipe for name, recipe in default.items() if operation(recipe) == "finetune"}
    assert len(tuned) == 13
    for name, recipe in tuned.items():
        assert dict(recipe.parents)["original"] == default[name.rpartition("-")[0]]


def test_without_images_to_pretrain_on_the_backbone_is_torchvisions(tmp_path):
    backbone = make_catalog("images", tmp_path)["backbone"]
    assert (operation(backbone), backbone.data) == ("import_weights", None)
    assert dict(backbone.settings) == {"torchvision": "IMAGENET1K_V1"}


def test_a_file_of_weights_is_known_by_its_content(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"conv1.weight": np.zeros(3, np.float32)}, path)
    backbone = make_catalog("images", tmp_path, path)["backbone"]
    assert dict(backbone.settings) == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    other = path.rename(tmp_path / "elsewhere")
    assert make_catalog("images", tmp_path, other)["backbone"] == backbone


def test_a_file_of_weights_that_is_missing_or_none_is_told_with_its_option(tmp_path):
    path = tmp_path / "absent.safetensors"
    with pytest.raises(ProfileError, match=r"--pretrained-weights .*absent\.safetensors: there is no such file"):
        make_catalog("images", tmp_path, path)
    path.write_bytes(b"weights")
    with pytest.raises(ProfileError, match=r"absent\.safetensors: no readable safetensors file"):
        make_catalog("images", tmp_path, path)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("teacher-scratch", "teacher"),
        ("teacher-finetuned-8bit", "quantized"),
        ("student-distilled-finetuned-16bit", "quantized"),
        ("student-distilled-scratch", "student"),
        ("conv-student-distilled", "convolutional student"),
        ("pruned-0.9-3-tuned", "pruned student"),
        ("cnn-ordinary-small", "question 4"),
        ("cnn-group", "question 4"),
        ("cnn-grouped-fitted-tuned", "compressed CNN"),
        ("cnn-2bit-tuned", "quantized"),
        ("cnn-composed-packed", "quantized"),
        ("student-packed", "quantized"),
    ],
)
def test_models_belong_to_families(default, model, name):
    assert default[model].family == name


def test_only_what_is_measured_before_it_is_tuned_is_a_step_to_others(default):
    assert {name for name, recipe in default.items() if recipe.intermediate} == {
        *(f"cnn-pruned-{criterion}" for criterion in CRITERIA),
        *(f"cnn-low-rank-{ranks}" for ranks in RANKS),
        *("cnn-pruned-sixteenth", "cnn-low-rank-sixteenth"),
        *(f"cnn-{kind}-{weights}" for kind in ("grouped", "separable") for weights in ("fitted", "random")),
        *(f"cnn-{kind}-random-tuned" for kind in ("pruned", "grouped", "separable")),
        *(name for name, recipe in default.items() if recipe.family == "control"),
    }


def test_curves_are_the_pruning_curves(default):
    assert set(default.curves) == {tuple(pruning_curve(rate, protocol)) for rate in RATES for protocol in PROTOCOLS}
