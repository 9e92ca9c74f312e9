import subprocess
import sys

import pytest

from pytest_claims.report import write_results
from pytest_claims.report.drawn_before import RECORD
from pytest_claims.report.files import ResultsError

FEW = ("q2-teacher-parameters", "q2-student-alone-below-teacher", "q2-published-teacher-scratch")


def test_all_results_are_written_into_a_new_folder(findings, conditions, tmp_path):
    folder = tmp_path / "new" / "results"
    paths = write_results({name: findings[name] for name in FEW}, conditions, folder)
    assert {path.name for path in paths} == {
        *("claims.csv", "claims.md", "measurements.csv", "report.html"),
        *(f"{name}.{kind}" for name in ("question2", "accuracy_over_bytes") for kind in ("png", "svg")),
    }
    assert {path.name for path in folder.iterdir()} == {RECORD, *(path.name for path in paths)}
    assert all(path.stat().st_size > 0 for path in paths)
    assert (folder / "report.html").read_text().count("data:image/svg+xml") == 2


def test_a_folder_that_cannot_be_written_to_is_one_clear_error(findings, conditions, tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(ResultsError, match=f"results folder {tmp_path / 'results'}: cannot write"):
        write_results({FEW[0]: findings[FEW[0]]}, conditions, tmp_path / "results")


def test_importing_the_package_needs_neither_torch_nor_pandas_nor_matplotlib():
    heavy = {"torch", "pandas", "matplotlib", "scipy", "jinja2"}
    modules = "text, tables, plots, terminal, page"
    code = f"import sys\nfrom pytest_claims.report import write_results, {modules}\nprint({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
