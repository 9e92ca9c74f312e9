import json
import os
import subprocess
import sys

import pytest
from claim_entries import entry, written

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.plugin.options import option

ENTRY = "pytest_claims.plugin.entry"
THEIRS = """
def pytest_addoption(parser):
    group = parser.getgroup("theirs")
    group.addoption("--profile", dest="profile", default="of somebody else")
    group.addoption("--jobs", dest="their_jobs", type=float)
"""
WITNESS = """
import json, sys

def test_witness(pytestconfig):
    chosen = {name: value for name, value in vars(pytestconfig.option).items() if "claims" in name or "jobs" in name}
    chosen["profile"] = pytestconfig.getoption("profile", None)
    modules = [name for name in sys.modules if name in ("pydantic", "rich", "pytest_claims.plugin.hooks")]
    with open("witness.json", "w") as file:
        json.dump({"chosen": chosen, "modules": modules}, file)
"""


class Project:
    """A folder in which real pytest runs, with no plugin but those that are named."""

    def __init__(self, path):
        self.path = path
        (path / "test_witness.py").write_text(WITNESS)

    def have_claims(self):
        written(self.path / "claims.json", entry("accuracy"))
        (self.path / "recipes.py").touch()
        settings = "[pytest]\nclaims_file = claims.json\nclaims_recipes = recipes\n"
        (self.path / "pytest.ini").write_text(settings)

    def pytest(self, *arguments):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.path)]),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, check=False)

    def witnessed(self, *arguments):
        done = self.pytest(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((self.path / "witness.json").read_text())


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_a_project_without_claims_gets_no_option_and_none_of_the_engine(project):
    found = project.witnessed("-p", ENTRY)
    assert found == {"chosen": {"profile": None}, "modules": []}
    refused = project.pytest("-p", ENTRY, "--claims-profile=tiny")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --claims-profile=tiny" in refused.stderr


def test_a_project_without_claims_may_have_every_name_for_itself(project):
    (project.path / "conftest.py").write_text(THEIRS.replace("--profile", "--claims-profile"))
    assert project.witnessed("-p", ENTRY, "--claims-profile=mine")["chosen"]["profile"] == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("names", [("--profile", "--seeds"), ("--claims-profile", "--claims-seeds")])
@pytest.mark.parametrize("by_conftest", [True, False], ids=["conftest", "plugin"])
def test_options_have_a_long_name_and_a_short_one_where_nobody_else_has_it(project, names, by_conftest):
    project.have_claims()
    if by_conftest:
        (project.path / "conftest.py").write_text(f"pytest_plugins = [{ENTRY!r}]")
    profile, seeds = names
    found = project.witnessed(*(() if by_conftest else ("-p", ENTRY)), f"{profile}=tiny", f"{seeds}=2")
    assert (found["chosen"]["claims_profile"], found["chosen"]["claims_seeds"]) == ("tiny", [0, 1])
    assert sorted(found["modules"]) == ["pydantic", "pytest_claims.plugin.hooks", "rich"]


def loaded(project, how):
    """Lets somebody else declare options of the same names; returns the arguments that load the plugins."""
    if how in ("before", "after"):
        (project.path / "theirs.py").write_text(THEIRS)
        order = ("theirs", ENTRY) if how == "before" else (ENTRY, "theirs")
        return [argument for name in order for argument in ("-p", name)]
    plugins = f"pytest_plugins = [{ENTRY!r}]\n" if how == "conftest with the plugin" else ""
    (project.path / "conftest.py").write_text(plugins + THEIRS)
    return [] if plugins else ["-p", ENTRY]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["before", "after", "conftest", "conftest with the plugin"])
def test_a_short_name_of_somebody_else_stays_theirs(project, how):
    project.have_claims()
    plugins = loaded(project, how)
    chosen = ("--profile=mine", "--claims-profile=tiny", "--jobs=0.5", "--claims-jobs=3", "--seeds=2")
    found = project.witnessed(*plugins, *chosen)["chosen"]
    assert (found["profile"], found["claims_profile"]) == ("mine", "tiny")
    assert (found["their_jobs"], found["claims_jobs"], found["claims_seeds"]) == (0.5, 3, [0, 1])
    text = project.pytest(*plugins, "--help").stdout
    assert "--claims-seeds=N|LIST, --seeds=N|LIST" in text
    assert "--claims-profile=NAME\n" in text
    assert "--profile=PROFILE" in text


def test_the_plugin_may_be_named_twice(project):
    project.have_claims()
    (project.path / "conftest.py").write_text(f"pytest_plugins = [{ENTRY!r}]")
    assert project.witnessed("-p", ENTRY, "--profile=tiny")["chosen"]["claims_profile"] == "tiny"


def test_an_option_is_read_by_its_name(pytestconfig):
    assert option(pytestconfig, "results_dir") == pytestconfig.option.claims_results_dir
