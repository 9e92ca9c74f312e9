import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from our_project import OURS
from safetensors.numpy import load_file

from pytest_claims.claims.claims_file import load_claims
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import HISTORY, MANIFEST, MEASUREMENTS, WEIGHTS
from pytest_claims.suite.planning import Plan
from pytest_claims.suite.seed_counts import fixed, wanted
from pytest_claims.suite.suite import Suite, SuiteOptions

CLAIMS = {claim.id: claim for claim in load_claims(ROOT / "expected_results.json").claims}


@dataclass(frozen=True)
class Session:
    """A whole `pytest -m reproduce --profile tiny` in a folder: its exit status, output, outcomes and results."""

    status: int
    output: str
    outcomes: dict[str, str]
    verdicts: dict[str, str]
    table: str


def reproduce(folder: Path, *chosen: str, clone: Path = ROOT, results: str = "results") -> Session:
    command = [sys.executable, "-m", "pytest", "-m", "reproduce", "-p", "no:cacheprovider", "--profile", "tiny"]
    options = ["--jobs=2", f"--store-dir={folder / 'store'}", f"--results-dir={folder / results}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(clone)
    finished = subprocess.run(
        [*command, *options, f"--junitxml={folder / 'outcomes.xml'}", *chosen],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr == ""
    table = (folder / results / "claims.csv").read_text()
    verdicts = {row["claim"]: row["verdict"] for row in csv.DictReader(table.splitlines())}
    return Session(finished.returncode, finished.stdout, outcomes(folder / "outcomes.xml"), verdicts, table)


def outcomes(path: Path) -> dict[str, str]:
    """By claim, or by function for the test that is of no claim: error, failure, skipped, or what the plugin noted."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        noted = {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        ended = [child.tag for child in case if child.tag in ("error", "failure", "skipped")]
        found[noted.get("claim", case.get("name"))] = ended[0] if ended else noted.get("claim outcome", "passed")
    return found


def planned(folder: Path) -> tuple[Suite, Plan]:
    suite = Suite(SuiteOptions(OURS, "tiny", folder / "store"))
    applicable = [claim for claim in CLAIMS.values() if claim.data in (None, suite.profile.data)]
    return suite, suite.plan(wanted(applicable, fixed(applicable, suite)))


def fingerprints(folder: Path) -> dict[Path, tuple[int, str]]:
    """When each file of a run was written, and the hash of what is in it."""
    files = [path for path in (folder / "store" / "runs").rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def first(folder):
    return reproduce(folder)


def test_every_run_is_made_and_told_of_once(first, folder):
    suite, plan = planned(folder)
    assert set(suite.stored(plan)) == set(plan.runs) == {path.name for path in (folder / "store" / "runs").iterdir()}
    assert list((folder / "store" / "failed").iterdir()) == []
    done = re.findall(rf"^\[\d+/{len(plan.runs)}\] done (.*); ", first.output, re.MULTILINE)
    assert sorted(done) == sorted(planned.run.title for planned in plan.runs.values())


def test_every_weight_is_a_number(first, folder):
    for path in (folder / "store" / "runs").glob(f"*/{WEIGHTS}"):
        for name, tensor in load_file(path).items():
            assert tensor.dtype.kind in "iub" or np.isfinite(tensor).all(), f"{name} in {path}"


ENDS = {
    "reproduced": "passed",
    "holds": "passed",
    "refuted": "failure",
    "fails": "failure",
    "practically equal": "equal",
    "inconclusive": "inconclusive",
    "not shown": "inconclusive",
    "not applicable": "skipped",
    "not judged": "skipped",
}
"""How a claim's test ends by its verdict where nothing is recorded."""


def check_ends(session: Session) -> None:
    expected = {id_: ENDS[verdict] for id_, verdict in session.verdicts.items()}
    # A kind without claims leaves pytest's placeholder, which is skipped.
    ended = {id_: end for id_, end in session.outcomes.items() if "[NOTSET]" not in id_}
    assert ended == {**expected, "test_every_claim_has_a_test": "passed"}
    assert session.status == (1 if "failure" in session.outcomes.values() else 0)


def test_every_claim_ends_by_its_verdict_and_none_in_an_error(first):
    assert [id_ for id_, claim in CLAIMS.items() if "tiny" in claim.recorded] == []
    assert list(first.verdicts) == list(CLAIMS)
    check_ends(first)


def test_without_controls_each_claim_over_seeds_is_judged_on_the_same_runs(first, folder, tmp_path):
    report = json.loads((ROOT / "expected_results.json").read_text(encoding="utf-8"))
    report["claims"] = [
        {field: value for field, value in entry.items() if field != "by_design"}
        for entry in report["claims"]
        if entry["kind"] != "control"
    ]
    (tmp_path / "claims.json").write_text(json.dumps(report), encoding="utf-8")
    session = reproduce(folder, "-o", f"claims_file={tmp_path / 'claims.json'}", results="uncontrolled")
    assert "runs to make" not in session.output
    assert list(session.verdicts) == [entry["id"] for entry in report["claims"]]
    assert "not judged" not in session.verdicts.values()
    over_seeds = {verdict for id_, verdict in session.verdicts.items() if not CLAIMS[id_].exact}
    assert over_seeds >= {"reproduced", "inconclusive", "not applicable"}
    check_ends(session)


def test_what_is_exact_is_reproduced_whatever_the_training(first):
    exact = [id_ for id_, claim in CLAIMS.items() if claim.kind in ("parameters", "size")]
    assert {id_: first.verdicts[id_] for id_ in exact} == dict.fromkeys(exact, "reproduced")


def test_results_are_tables_and_a_page_of_every_claim(first, folder):
    results = folder / "results"
    with (results / "measurements.csv").open(newline="") as file:
        measured = {(row["model"], row["seed"]) for row in csv.DictReader(file)}
    assert {("teacher-finetuned", "0"), ("teacher-finetuned", "1"), ("student", "0")} <= measured
    for name in ("claims.md", "report.html"):
        text = (results / name).read_text(encoding="utf-8")
        assert [id_ for id_ in CLAIMS if id_ not in text] == []


def test_a_second_session_makes_nothing_and_finds_the_same(first, folder):
    before = fingerprints(folder)
    second = reproduce(folder)
    assert "runs to make" not in second.output
    assert fingerprints(folder) == before
    assert (second.status, second.outcomes, second.table) == (first.status, first.outcomes, first.table)


def test_a_run_that_lost_its_weights_is_made_again_alone_with_the_same_bytes(first, folder):
    _, plan = planned(folder)
    lost = folder / "store" / "runs" / plan.keys["student-distilled-finetuned"][1]
    before = fingerprints(folder)
    (lost / WEIGHTS).unlink()
    third = reproduce(folder)
    assert f"1 of {len(plan.runs)} runs to make" in third.output
    assert third.output.count("warning: ") == 1
    after = fingerprints(folder)
    assert before.keys() == after.keys()
    assert {path.parent for path in before if before[path] != after[path]} == {lost}
    for name in (WEIGHTS, MEASUREMENTS, HISTORY):
        assert before[lost / name][1] == after[lost / name][1], name
    assert before[lost / MANIFEST][0] < after[lost / MANIFEST][0]
    assert (third.status, third.table) == (first.status, first.table)


@pytest.mark.parametrize("chosen", ["q2-better-teacher-better-student or q1-composed-beats-single"])
def test_another_clone_gives_the_same_bytes(first, folder, tmp_path, chosen):
    """Of pre-training, both teachers, distillation, pruning, low rank, quantization-aware training and packing."""
    clone = tmp_path / "clone"
    for name in ("compression", "experiments", "pytest_claims", "tests/reproduce"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "expected_results.json", "pyproject.toml"):
        shutil.copy(ROOT / name, clone / name)
    reproduce(tmp_path, "-k", chosen, "--seeds", "1", clone=clone)
    here, there = ({path.name: path for path in (each / "store/runs").iterdir()} for each in (folder, tmp_path))
    assert len(there) >= 10
    for key, path in there.items():
        for name in (WEIGHTS, MEASUREMENTS, HISTORY):
            assert (path / name).read_bytes() == (here[key] / name).read_bytes(), f"{name} of {path}"
