from pathlib import Path

import pytest

from pytest_claims.datasets.fractal import FractalSpec
from pytest_claims.recipes.profile import Profile, ProfileError, ProfileRequest
from pytest_claims.recipes.recipe import TARGET

SPEC = FractalSpec(0, 2, 3, 2, 8, jitter=0.3, noise=0.1)


def test_models_are_measured_on_the_target():
    profile = Profile("small", "drawn", {"other": SPEC, TARGET: SPEC}, (0, 1))
    assert profile.target is SPEC


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"data_root": Path("x")}, "--data-root"),
        ({"skip_bad_images": True}, "--skip-bad-images"),
        ({"pretrained_weights": Path("x")}, "--pretrained-weights"),
    ],
)
def test_an_option_without_use_is_refused_with_advice(given, told):
    with pytest.raises(ProfileError) as caught:
        ProfileRequest(**given).refuse_unused("small", "it draws")
    assert str(caught.value) == f"--profile small: has no use for {told}; it draws"
    with pytest.raises(ProfileError, match=f"has no use for {told}$"):
        ProfileRequest(**given).refuse_unused("small")


def test_a_request_without_options_is_not_refused():
    ProfileRequest().refuse_unused("small")
