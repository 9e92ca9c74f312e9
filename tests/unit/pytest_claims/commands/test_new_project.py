import shutil
import subprocess
import sys

import pandas as pd
import pytest

from pytest_claims.claims.expected_results import schema_text
from pytest_claims.commands.new_project import NewProjectError, write_project
from pytest_claims.keys.code_fingerprint import ROOT

FILES = ["claims.json", "pyproject.toml", "recipes.py", "test_claims.py"]


def test_a_new_project_is_written_once(tmp_path):
    assert write_project(tmp_path / "deep/report") == FILES
    assert sorted(path.name for path in (tmp_path / "deep/report").iterdir()) == FILES
    with pytest.raises(NewProjectError, match="is there, should be a new or an empty folder"):
        write_project(tmp_path / "deep/report")


def test_a_file_in_its_place_or_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NewProjectError, match="is there"):
        write_project(tmp_path / "file")
    with pytest.raises(NewProjectError, match="cannot be written"):
        write_project(tmp_path / "file/below")


def claims_command(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "pytest_claims", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_says_what_comes_next(tmp_path):
    done = claims_command("new", tmp_path / "report")
    assert done.returncode == 0
    assert done.stdout.endswith(f"cd {tmp_path / 'report'}\n    pytest\n")
    again = claims_command("new", tmp_path / "report")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith(f"error: {tmp_path / 'report'}: is there")


def test_the_published_schema_is_the_models():
    published = (ROOT / "docs/claims.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "python -m pytest_claims schema > docs/claims.schema.json"
    assert claims_command("schema").stdout == published


@pytest.mark.slow
def test_a_new_project_runs_at_once_and_again_from_its_store(tmp_path):
    write_project(tmp_path / "report")
    shutil.copy(ROOT / "examples/fashion_mnist/test_claims.py", tmp_path / "report")  # the two are the same for users
    command = [sys.executable, "-m", "pytest", "-p", "pytest_claims.plugin.entry", "--seeds", "1"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    first, second = (
        subprocess.run(
            command, cwd=tmp_path / "report", env=environment, capture_output=True, text=True, check=False
        ).stdout
        for _ in range(2)
    )
    assert "3 of 3 runs to make" in first, first
    assert "narrow-is-smaller" in first
    assert (tmp_path / "report/results/report.html").is_file()
    measured = pd.read_csv(tmp_path / "report/results/measurements.csv").set_index("model")["accuracy"]
    assert measured["wide"] > 2 * 100 / 11, "of 11 classes; a network that has not learned shows nothing"
    assert "to make" not in second
    assert "1 failed" not in second
