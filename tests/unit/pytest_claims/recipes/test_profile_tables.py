import pytest

from pytest_claims.datasets.fractal import FractalSpec
from pytest_claims.datasets.idx import IdxSpec
from pytest_claims.datasets.preparation import FolderSpec
from pytest_claims.recipes.profile import ProfileError, ProfileRequest
from pytest_claims.recipes.profile_tables import profiles_in


@pytest.fixture
def profiles(tmp_path):
    def read(text):
        (tmp_path / "pyproject.toml").write_text(text)
        return profiles_in(tmp_path)

    return read


def test_a_table_is_a_profile(profiles):
    text = '[tool.claims.profiles.small]\ndata = "drawn"\nseeds = 2\ntraining_per_class = 7\nresolution = 16\n'
    profile = profiles(text)["small"](ProfileRequest())
    assert (profile.name, profile.data, profile.seeds) == ("small", "drawn", (0, 1))
    assert isinstance(profile.target, FractalSpec)
    assert (profile.target.training_per_class, profile.target.resolution) == (7, 16)


def test_data_elsewhere_are_found_by_option(profiles, tmp_path):
    made = profiles(
        '[tool.claims.profiles.a]\ndata = "fashion-mnist"\n[tool.claims.profiles.b]\ndata = "image-folder"\n'
    )
    request = ProfileRequest(data_root=tmp_path / "images", skip_bad_images=True)
    assert made["a"](ProfileRequest()).target != made["a"](request).target
    assert isinstance(made["a"](request).target, IdxSpec)
    assert made["a"](request).target.root == tmp_path / "images"
    assert made["b"](request).target == FolderSpec(tmp_path / "images", 32, skip_bad_images=True)


def test_a_folder_that_is_not_given_is_asked_for(profiles):
    make = profiles('[tool.claims.profiles.b]\ndata = "image-folder"\n')["b"]
    with pytest.raises(ProfileError, match="--profile b: data 'image-folder': needs --data-root"):
        make(ProfileRequest())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('data = "mnist"', "there is no data set 'mnist', should be one of drawn, fashion-mnist, image-folder"),
        ("seeds = 3", "data: Field required"),
        ('data = "drawn"\nseeds = 0', "seeds: Input should be greater than or equal to 1"),
        ('data = "drawn"\nseeds = "3"', "seeds: Input should be a valid integer"),
        ('data = "drawn"\nepochs = 3', r"epochs: Extra inputs are not permitted \(fields: data, seeds"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(profiles, table, message):
    with pytest.raises(ProfileError, match=rf"pyproject.toml: \[tool.claims.profiles.x\]: {message}"):
        profiles(f"[tool.claims.profiles.x]\n{table}\n")


@pytest.mark.parametrize("text", ["[tool", "[tool.claims]\nprofiles = 3\n", '[tool.claims.profiles]\nx = "y"\n'])
def test_a_damaged_file_is_one_error(profiles, text):
    with pytest.raises(ProfileError, match=r"pyproject\.toml"):
        profiles(text)


def test_a_project_without_profiles_has_none(profiles):
    assert profiles("") == {}
