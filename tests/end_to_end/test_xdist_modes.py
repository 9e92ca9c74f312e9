import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest
from fake_runs import CLAIMS, fill_for_claims, tiny_suite
from student_sessions import PROJECT_FILES, made

from pytest_claims.keys.code_fingerprint import ROOT

# Counts the builds, draws no plots, and on request takes a process of xdist's down once, before a test tells anything.
PLUGIN = """
import os
import pathlib
import pytest
from pytest_claims import report
from pytest_claims.plugin import session
report.write_results = lambda *arguments: None
build = session.build_missing
def count_and_build(*arguments):
    with open("builds", "a") as file:
        file.write("built\\n")
    build(*arguments)
session.build_missing = count_and_build

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    fuse = pathlib.Path("fuse")
    if fuse.exists() and hasattr(item.config, "workerinput") and item.name == fuse.read_text():
        fuse.unlink()
        os._exit(3)
"""


@dataclass(frozen=True)
class Session:
    """Exit status, output, and how each test ended, each time: as the plugin noted, or by a tag of JUnit's."""

    status: int
    output: str
    ends: dict[str, list[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose runs look trained."""
    root = tmp_path_factory.mktemp("project")
    for name in PROJECT_FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    recorded = {"recorded": {"tiny": {"verdict": "refuted"}}}
    claims = [{**entry, **(recorded if entry["id"] == "q2-refuted" else {})} for entry in CLAIMS]
    (root / "expected_results.json").write_text(json.dumps({"format": 1, "claims": claims}))
    (root / "crashing.py").write_text(PLUGIN)
    fill_for_claims(tiny_suite(root / ".runs"))
    return root


def reproduce(project, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "crashing", "-p", "no:cacheprovider", "-m", "reproduce"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, "--profile=tiny", "--junitxml=ends.xml", *arguments],
        cwd=project,
        env={**inherited, "PYTHONPATH": os.pathsep.join([str(ROOT), str(project)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return Session(done.returncode, done.stdout, ends(project / "ends.xml"))


def ends(path):
    found = defaultdict(list)
    for case in ElementTree.parse(path).iter("testcase"):
        noted = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        tags = [child.tag for child in case if child.tag in ("error", "failure", "skipped")]
        found[case.get("name")].append(tags[0] if tags else noted.get("claim outcome", "passed"))
    return dict(found)


@pytest.fixture(scope="module")
def alone(project):
    session = reproduce(project)
    assert session.status == 0
    assert session.ends["test_comparisons[q2-reproduced]"] == ["passed"]
    return session


def spread(project, mode):
    """A session under xdist that builds once and leaves the store as it is."""
    store, builds = made(project / ".runs"), project / "builds"
    builds.unlink(missing_ok=True)
    session = reproduce(project, "-n2", f"--dist={mode}")
    assert builds.read_text().splitlines() == ["built"]
    assert made(project / ".runs") == store
    return session


# Under loadgroup not the last: xdist itself hangs where a process crashes in what is left for it.
@pytest.mark.parametrize(
    ("mode", "test", "crashed"),
    [
        ("load", "test_comparisons[q2-reproduced]", ["error"]),
        ("worksteal", "test_comparisons[q2-reproduced]", ["error"]),
        # These try again, the crashed test included: of a file, or of a group, which without a mark is one test.
        ("loadscope", "test_comparisons[q2-reproduced]", ["error", "passed"]),
        ("loadfile", "test_comparisons[q2-reproduced]", ["error", "passed"]),
        ("loadgroup", "test_parameter_counts[q2-teacher-parameters]", ["error", "passed"]),
    ],
)
def test_a_process_that_crashes_costs_its_test_alone(project, alone, mode, test, crashed):
    (project / "fuse").write_text(test)
    session = spread(project, mode)
    assert session.ends == {**alone.ends, test: crashed}
    assert session.status == pytest.ExitCode.TESTS_FAILED
    assert f"crashed while running 'tests/reproduce/test_claims.py::{test}'" in session.output
    assert session.output.count("replacing crashed worker") == 1
    claim = test.partition("[")[2].removesuffix("]")
    assert re.search(f"^ *{claim} .* reproduced", session.output, re.MULTILINE), "its verdict is in the table"
