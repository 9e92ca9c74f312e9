import sys
from importlib import invalidate_caches

import pytest

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.measure import BUILT_IN, Measure
from pytest_claims.recipes.profile import ProfileError, ProfileRequest
from pytest_claims.recipes.project import ProjectError, ProjectPlace, find_project, load_project, place_in

MODULE = """
from pytest_claims.recipes.catalog import Catalog
from pytest_claims.recipes.measure import Measure
from pytest_claims.recipes.profile import Profile
PROFILES = {"small": lambda request: Profile("small", "drawn", {}, (0, 1))}
DATA = ("drawn",)
MEASURES = (Measure("seconds", "s"),)
def recipes(profile, request):
    return Catalog({})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project's folder; what is imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "report_of_test.py").write_text(MODULE)
    invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("report_of_test"):
            del sys.modules[name]


def test_a_module_is_looked_for_in_the_projects_folders(folder):
    (folder / "package_of_test").mkdir()
    for name in ("report_of_test", "package_of_test.recipes"):
        assert find_project(name, [folder / "src", folder]) == ProjectPlace(name, (folder / "src", folder))


def test_folders_are_told_once_whatever_they_are_called(folder):
    place = find_project("report_of_test", [folder, folder / "sub" / "..", folder])
    assert place.paths == (folder.resolve(),)


def test_elsewhere_a_module_is_found_where_python_finds_it(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / "package_of_test").mkdir()
    (folder / "package_of_test" / "__init__.py").touch()
    invalidate_caches()
    for name in ("report_of_test", "package_of_test.recipes"):
        assert find_project(name, [folder / "src"]).paths == (folder / "src", folder)
    assert find_project("experiments.project", [folder]).paths == (folder, ROOT)


@pytest.mark.parametrize(
    ("module", "state"),
    [
        ("nowhere_to_be_found.recipes", "cannot be found"),
        ("numpy", "is installed among other packages"),
        ("typing_extensions", "is installed among other packages"),
    ],
)
def test_a_module_that_is_none_of_the_projects_is_told(folder, module, state):
    with pytest.raises(ProjectError) as caught:
        find_project(module, [folder])
    assert str(caught.value) == f"claims_recipes: {module} {state}, should be a module of the project in {folder}"


def settings(folder, text):
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_the_place_is_the_one_of_the_configuration(folder):
    text = '[tool.pytest.ini_options]\nclaims_recipes = "report_of_test"\npythonpath = ["src", "."]\n'
    assert place_in(settings(folder, text)) == ProjectPlace("report_of_test", (folder, folder / "src"))
    in_one = text.replace('["src", "."]', '"src ."')
    assert place_in(settings(folder, in_one)) == ProjectPlace("report_of_test", (folder, folder / "src"))
    without = '[tool.pytest.ini_options]\nclaims_recipes = "report_of_test"\n'
    assert place_in(settings(folder, without)) == ProjectPlace("report_of_test", (folder,))


@pytest.mark.parametrize("text", ["", "[tool.pytest]", "[tool", "tool = 3", "[tool.pytest.ini_options]\nx = 1", None])
def test_a_configuration_that_does_not_tell_is_named(folder, text):
    if text is not None:
        settings(folder, text)
    with pytest.raises(ProjectError, match=rf"{folder}/pyproject\.toml: has no claims_recipes below "):
        place_in(folder)


def test_a_project_is_what_its_module_has(folder):
    project = load_project(ProjectPlace("report_of_test", (folder,)))
    assert project.place.module == "report_of_test"
    assert list(project.profiles) == ["small"]
    assert project.profile("small", ProfileRequest()).seeds == (0, 1)
    assert dict(project.recipes(project.profile("small", ProfileRequest()), ProfileRequest())) == {}
    assert project.data == ("drawn",)
    assert project.measures == {measure.name: measure for measure in (*BUILT_IN, Measure("seconds", "s"))}
    assert (project.plots, project.reference_seconds, project.measure_functions) == ((), {}, {})


def test_an_unknown_profile_is_told_with_the_choice(folder):
    project = load_project(ProjectPlace("report_of_test", (folder,)))
    with pytest.raises(ProfileError, match="--profile big: there is none of this name; choose from small"):
        project.profile("big", ProfileRequest())


def test_a_module_that_cannot_be_imported_is_told_with_its_error(folder):
    (folder / "report_of_test_2.py").write_text("1 / 0")
    invalidate_caches()
    told = r"claims_recipes: report_of_test_2 cannot be imported \(ZeroDivisionError: division by zero\)"
    with pytest.raises(ProjectError, match=told):
        load_project(ProjectPlace("report_of_test_2", (folder,)))


def test_a_module_without_profiles_has_those_of_the_settings(folder):
    (folder / "report_of_test_3.py").write_text("")
    invalidate_caches()
    settings(folder, '[tool.claims.profiles.little]\ndata = "drawn"\nseeds = 2\n')
    place = ProjectPlace("report_of_test_3", (folder,))
    assert load_project(place).profile("little", ProfileRequest()).seeds == (0, 1)


def test_a_project_without_any_profile_is_told_where_one_belongs(folder):
    (folder / "report_of_test_4.py").write_text("")
    invalidate_caches()
    settings(folder, "")
    with pytest.raises(ProjectError, match=rf"{folder}/pyproject\.toml: has no profile, should have a table \[tool\."):
        load_project(ProjectPlace("report_of_test_4", (folder,)))
