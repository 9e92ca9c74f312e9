import ctypes
import json
import re
import resource
import subprocess
import sys

import pytest
from fake_runs import tiny_suite
from student_sessions import SEEDS, StudentProject, ended, made, workers_of

from pytest_claims.keys.code_fingerprint import ROOT

IMAGES_BYTES = 11 * (12 + 12) * 3 * 32 * 32
"""Of the images that a seed draws under the profile `tiny`; a student's weights and checkpoints are larger."""

TITLES = [f"student-scratch (seed {seed})" for seed in range(SEEDS)]


@pytest.fixture
def project(tmp_path):
    return StudentProject(tmp_path / "project")


def test_two_sessions_at_once_share_the_work_and_each_tells_of_all_of_it(project, tmp_path):
    store = tmp_path / "store"
    sessions = [project.start(store, "--jobs=1") for _ in range(2)]
    first, second = (ended(session) for session in sessions)
    assert sorted(project.starts()) == sorted(made(store))
    assert len(project.starts()) == SEEDS
    for session in (first, second):
        assert (session.status, session.errors) == (0, "")
        missing = int(re.search(r"^(\d+) of 3 runs to make", session.output, re.MULTILINE)[1])
        assert len(set(session.done())) == len(session.done()) == missing
        assert f"[{missing}/{missing}] done" in session.output
    assert sorted(max(first.done(), second.done(), key=len)) == TITLES
    assert "1 reproduced" in first.claims
    assert first.claims == second.claims


def test_a_full_disk_is_one_error_and_once_there_is_room_the_next_session_goes_on(project, tmp_path):
    store = tmp_path / "store"
    full = project.run(store, "--jobs=1", "--seeds=1", WORKER_FILE_BYTES=str(IMAGES_BYTES + 50_000))
    assert full.status == pytest.ExitCode.USAGE_ERROR
    assert full.errors.splitlines() == [f"ERROR: run store {store}: cannot write a run (File too large)", ""]
    assert f"warning: {store / 'checkpoints'}/" in full.output
    assert "Traceback" not in full.output
    assert made(store) == {}
    for folder in ("failed", "checkpoints", "runs"):
        assert list((store / folder).iterdir()) == [], folder
    assert workers_of(store) == []
    roomy = project.run(store, "--jobs=1", "--seeds=1")
    assert (roomy.status, roomy.errors) == (0, "")
    assert roomy.done() == TITLES[:1]
    assert len(made(store)) == 1


def test_a_disk_that_is_full_before_the_images_are_drawn_is_one_error(project, tmp_path):
    store = tmp_path / "store"
    full = project.run(store, "--jobs=1", "--seeds=1", WORKER_FILE_BYTES="100000")
    assert full.status == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, full.errors.splitlines())
    assert re.fullmatch(rf"ERROR: {store}/datasets: a data set cannot be written there \(.*File too large.*\)", line)
    assert "Traceback" not in full.output
    assert [path for path in store.rglob("*") if path.is_file() and path.parent.name != "locks"] == []
    assert workers_of(store) == []


def obey_permissions():
    """Takes root's power to write anywhere from the programs that this process starts; others never had it."""
    drop_from_bounding_set, dac_override = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override)


def write_little():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("spoil", "below", "prepare", "reason"),
    [
        (lambda folder: (folder / "store").touch(), "", None, "Not a directory|File exists"),
        (lambda folder: (folder / "store").touch(), "deeper", None, "Not a directory"),
        (lambda folder: folder.chmod(0o500), "", obey_permissions, "Permission denied"),
        (nothing, "", write_little, "File too large"),
    ],
    ids=["file", "below-a-file", "read-only", "full"],
)
def test_a_store_that_cannot_be_used_is_one_error(project, tmp_path, spoil, below, prepare, reason):
    folder = tmp_path / "disk"
    folder.mkdir()
    spoil(folder)
    session = project.run(folder / "store" / below, prepare=prepare)
    assert session.status == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, session.errors.splitlines())
    assert re.fullmatch(rf"ERROR: .*{re.escape(str(folder / 'store' / below))}.*({reason}).*", line)
    assert "Traceback" not in session.output
    assert project.starts() == []


STARVED = """
import pathlib, resource, sys
import torch
from pytest_claims.workers import worker
make = worker.make
def greedy(context):
    if context.seed == 1:
        torch.empty(2**34, dtype=torch.uint8)
    return make(context)
worker.make = greedy
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 2**31
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
worker.main(*sys.argv[1:])
"""


def test_want_of_memory_fails_the_run_alone_and_says_what_helps(tmp_path):
    suite = tiny_suite(tmp_path / "store")
    arguments = [suite.options.to_json(), json.dumps({"student-scratch": [0, 1, 2]})]
    subprocess.run([sys.executable, "-c", STARVED, *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    first, starved, last = suite.plan({"student-scratch": (0, 1, 2)}).keys["student-scratch"]
    assert set(made(suite.store.root)) == {first, last}
    message = suite.store.failure(starved).message
    assert re.fullmatch(
        r"student-scratch \(seed 1\): out of memory \(.*17179869184 bytes.*\); fewer --jobs leave each run more",
        message,
    )
