import inspect
from dataclasses import replace

import pytest

from compression.distillation.logits import distillation_loss
from experiments import profiles
from experiments.datasets.fractal import FractalSpec
from experiments.datasets.preparation import FolderSpec
from experiments.profiles import PROFILES, ProfileError, ProfileRequest, make_profile

CALIBRATION_SEED = 100
"""Budgets are set on seeds from here up."""


@pytest.fixture(params=PROFILES)
def profile(request, tmp_path):
    return make_profile(request.param, ProfileRequest(data_root=tmp_path))


def test_every_profile_is_made_under_its_name(profile, tmp_path):
    assert make_profile(profile.name, ProfileRequest(data_root=tmp_path)) == profile


def test_seeds_count_from_0_and_none_was_calibrated_on(profile):
    assert profile.seeds == tuple(range(len(profile.seeds)))
    assert 0 < len(profile.seeds) <= CALIBRATION_SEED


def test_every_budget_trains(profile):
    for budget in vars(profile.budgets).values():
        assert budget.epochs >= 1
        assert budget.batch_size >= 2
        assert budget.learning_rate > 0


def test_an_unknown_profile_is_told_with_the_choice():
    with pytest.raises(ProfileError) as caught:
        make_profile("defualt", ProfileRequest())
    assert str(caught.value) == f"--profile defualt: there is none of this name; choose from {', '.join(PROFILES)}"


@pytest.mark.parametrize("name", ["images", "food11"])
def test_a_profile_of_images_asks_for_their_folder(name, tmp_path):
    with pytest.raises(ProfileError, match=f"--profile {name}: needs --data-root, the folder that holds"):
        make_profile(name, ProfileRequest())
    request = ProfileRequest(data_root=tmp_path, skip_bad_images=True)
    target = make_profile(name, request).target
    assert target == FolderSpec(tmp_path, target.resolution, skip_bad_images=True)


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
    for spec, full in ((short.target, default.target), (short.source, default.source)):
        assert (spec.first_class, spec.jitter, spec.noise) == (full.first_class, full.jitter, full.noise)
        for count in ("classes", "training_per_class", "validation_per_class", "resolution"):
            assert count == "validation_per_class" or getattr(spec, count) <= getattr(full, count)
    assert short.target.classes == default.target.classes


def test_source_and_target_share_no_class(profile):
    if profile.source is not None:
        assert isinstance(profile.target, FractalSpec)
        target, source = (
            set(range(spec.first_class, spec.first_class + spec.classes)) for spec in (profile.target, profile.source)
        )
        assert not target & source


@pytest.mark.parametrize(("fast", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_half_precision_is_used_where_it_is_fast(monkeypatch, fast, precision):
    asked = []
    monkeypatch.setattr(profiles, "bfloat16_is_fast", lambda device: bool(asked.append(device)) or fast)
    budgets = make_profile("default", ProfileRequest(device="cuda:0")).budgets
    assert asked == ["cuda:0"]
    assert budgets.teacher.precision == budgets.pretrain.precision == precision
    assert budgets.student.precision == "float32"


def test_food11_distils_as_the_loss_does_by_default(tmp_path):
    distillation = make_profile("food11", ProfileRequest(data_root=tmp_path)).distillation
    defaults = inspect.signature(distillation_loss).parameters
    assert vars(distillation) == {name: defaults[name].default for name in ("temperature", "alpha")}
