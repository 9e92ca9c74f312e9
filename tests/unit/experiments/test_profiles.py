import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from our_project import make_profile

from compression.distillation.logits import distillation_loss
from experiments.models import build_model
from experiments.profiles import DATA, FOOD11_IMAGES, PROFILES, SOURCE
from pytest_claims.datasets.fractal import FractalSpec, make_fractal_dataset
from pytest_claims.datasets.preparation import FolderSpec
from pytest_claims.recipes.profile import ProfileError, ProfileRequest
from pytest_claims.recipes.recipe import TARGET, Architecture
from pytest_claims.training.training import Images, Unwatched, cross_entropy, fit, seed_initialisation

CALIBRATION_SEED = 100
"""Budgets are set on seeds from here up."""


OF_FOLDERS = ("images", "food11")


def request_for(name, folder):
    return ProfileRequest(data_root=folder if name in OF_FOLDERS else None)


@pytest.fixture(params=PROFILES)
def profile(request, tmp_path):
    return make_profile(request.param, request_for(request.param, tmp_path))


def test_every_profile_is_made_under_its_name(profile, tmp_path):
    assert make_profile(profile.name, request_for(profile.name, tmp_path)) == profile


def test_seeds_count_from_0_and_none_was_calibrated_on(profile):
    assert profile.seeds == tuple(range(len(profile.seeds)))
    assert 0 < len(profile.seeds) <= CALIBRATION_SEED


def test_a_profiles_data_are_among_those_that_claims_may_name(profile):
    assert profile.data in DATA


def test_every_budget_trains(profile):
    for budget in vars(profile.budgets).values():
        assert budget.epochs >= 1
        assert budget.batch_size >= 2
        assert budget.learning_rate > 0


def test_an_unknown_profile_is_told_with_the_choice():
    with pytest.raises(ProfileError) as caught:
        make_profile("defualt", ProfileRequest())
    assert str(caught.value) == f"--profile defualt: there is none of this name; choose from {', '.join(PROFILES)}"


@pytest.mark.parametrize("option", ["data_root", "pretrained_weights", "skip_bad_images"])
def test_a_profile_that_draws_its_images_refuses_options_for_folders(option):
    told = f"--profile quick: has no use for --{option.replace('_', '-')}; it draws its own .*; --profile images takes"
    with pytest.raises(ProfileError, match=told):
        make_profile("quick", ProfileRequest(**{option: True if option == "skip_bad_images" else Path("x")}))


@pytest.mark.parametrize("name", OF_FOLDERS)
def test_a_profile_of_images_asks_for_their_folder(name, tmp_path):
    with pytest.raises(ProfileError, match=f"--profile {name}: needs --data-root, the folder that holds"):
        make_profile(name, ProfileRequest())
    request = ProfileRequest(data_root=tmp_path, skip_bad_images=True)
    profile = make_profile(name, request)
    expected = FOOD11_IMAGES if name == "food11" else None
    assert profile.datasets == {TARGET: FolderSpec(tmp_path, profile.resolution, True, expected)}


@pytest.mark.parametrize("name", ["quick", "tiny"])
def test_a_shorter_profile_is_the_default_with_less(name):
    default, short = (make_profile(each, ProfileRequest()) for each in ("default", name))
    for field, budget in vars(short.budgets).items():
        full = getattr(default.budgets, field)
        assert budget == replace(full, epochs=budget.epochs, learning_rate=budget.learning_rate)
        assert budget.epochs <= full.epochs
        assert budget.learning_rate <= full.learning_rate
    assert short.distillation == default.distillation
    assert set(short.seeds) <= set(default.seeds)
    assert short.datasets.keys() == default.datasets.keys() == {TARGET, SOURCE}
    for spec, full in ((short.datasets[role], default.datasets[role]) for role in default.datasets):
        assert spec.first_class == full.first_class
        assert spec.jitter <= full.jitter
        assert spec.noise <= full.noise
        for count in ("classes", "training_per_class", "validation_per_class", "resolution"):
            assert count == "validation_per_class" or getattr(spec, count) <= getattr(full, count)
    assert short.target.classes == default.target.classes


def test_source_and_target_share_no_class(profile):
    if SOURCE in profile.datasets:
        assert isinstance(profile.target, FractalSpec)
        target, source = (
            set(range(spec.first_class, spec.first_class + spec.classes))
            for spec in (profile.target, profile.datasets[SOURCE])
        )
        assert not target & source


def test_precision_is_the_profiles_and_not_the_machines(profile):
    assert {budget.precision for budget in vars(profile.budgets).values()} == {"float32"}


def test_food11_distils_as_the_loss_does_by_default(tmp_path):
    distillation = make_profile("food11", ProfileRequest(data_root=tmp_path)).distillation
    defaults = inspect.signature(distillation_loss).parameters
    assert vars(distillation) == {name: defaults[name].default for name in ("temperature", "alpha")}


@pytest.mark.slow
def test_a_student_learns_under_the_quick_profile():
    profile = make_profile("quick", ProfileRequest())
    data = make_fractal_dataset(profile.target)
    training, validation = (Images.of(split, torch.device("cpu")) for split in (data.training, data.validation))
    seed_initialisation(CALIBRATION_SEED)
    model = build_model(Architecture("experiments.models.student"), profile.target.classes)
    budget = profile.budgets.student
    history = fit(model, training, validation, budget, cross_entropy, CALIBRATION_SEED, Unwatched())
    assert history[-1].accuracy > 2 * 100 / profile.target.classes
