import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from fake_runs import fill, suite_without_data, tiny_suite
from our_project import operation

from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.datasets.preparation import PreparedData
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import HISTORY, Store, StoreError
from pytest_claims.training.checkpoints import Checkpoint, write_checkpoint
from pytest_claims.training.context import Built
from pytest_claims.training.training import Advance
from pytest_claims.training.training_state import Epoch, Snapshot
from pytest_claims.workers import patience, worker
from pytest_claims.workers.worker import work

WANTED = {"student-distilled-scratch": (0, 1), "student-scratch": (0,)}


@pytest.fixture
def suite(tmp_path):
    return suite_without_data(tmp_path / "store")


def snapshot():
    return Snapshot({"weight": torch.ones(3)}, "{}")


class Maker:
    """Makes every run at once, but those that it is told to fail; remembers what it was asked for."""

    def __init__(self):
        self.made, self.failing, self.contexts, self.resumes = [], set(), [], False

    def __call__(self, context):
        self.contexts.append(context)
        self.made.append((context.recipe, context.seed))
        if self.resumes:
            assert context.watcher.resume() is not None
        for epoch in range(context.recipe.budget.epochs):
            share = (epoch + 1) / context.recipe.budget.epochs
            context.watcher.advance(Advance(share, 10 * (epoch + 1), Epoch(epoch + 1, 0.5, 90.0, 80.0)), snapshot)
        if (context.recipe, context.seed) in self.failing:
            raise ValueError("too hot")
        return Built({"weight": torch.full((2,), float(context.seed))}, {"accuracy": 80.0, "parameters": 2})


@pytest.fixture
def maker(monkeypatch):
    maker = Maker()
    monkeypatch.setattr(worker, "make", maker)
    monkeypatch.setattr(worker, "_dataset", lambda suite, planned: None)
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.01)
    return maker


class Events(list):
    def __call__(self, event, **fields):
        self.append((event, fields))

    def keys(self, kind):
        return [fields["key"] for event, fields in self if event == kind]


def do(suite, wanted=None, emit=None):
    events = Events()
    work(suite, suite.plan(WANTED if wanted is None else wanted), emit or events)
    return events


def key_of(suite, model, seed=0):
    return suite.plan({model: (seed,)}).keys[model][0]


def test_everything_that_is_wanted_is_made_once(suite, maker):
    events = do(suite)
    plan = suite.plan(WANTED)
    assert len(plan.runs) == 5
    assert sorted(events.keys("start")) == sorted(events.keys("done")) == sorted(plan.runs)
    assert set(suite.stored(plan)) == set(plan.runs)
    assert len(maker.made) == 5


def test_parents_come_before_children_and_are_handed_over(suite, maker):
    events = do(suite)
    for key, planned in suite.plan(WANTED).runs.items():
        order = events.keys("start")
        assert all(order.index(parent) < order.index(key) for parent in planned.parents.values())
    (distilled,) = [c for c in maker.contexts if operation(c.recipe) == "distill" and c.seed == 1]
    teacher = distilled.parents["teacher"]
    assert teacher.recipe == suite.catalog["teacher-scratch"]
    assert teacher.weights == suite.store.load(key_of(suite, "teacher-scratch", 1)).weights
    assert teacher.measurements["accuracy"] == 80.0


def test_the_longest_remaining_path_is_taken_first(suite, maker):
    events = do(suite)
    remaining = [suite.plan(WANTED).runs[key].remaining for key in events.keys("start")]
    teachers = [key_of(suite, "teacher-scratch", seed) for seed in (0, 1)]
    assert events.keys("start")[:2] == teachers
    assert remaining == sorted(remaining, reverse=True)


def test_progress_is_told(suite, maker):
    events = do(suite, {"student-scratch": (1,)})
    key = key_of(suite, "student-scratch", 1)
    assert list(events) == [
        ("start", {"key": key}),
        ("progress", {"key": key, "share": 1.0, "images": 10, "accuracy": 80.0}),
        ("done", {"key": key}),
    ]


def test_what_is_stored_is_not_made_again(suite, maker):
    fill(suite, WANTED)
    assert do(suite) == []
    assert maker.made == []


def test_a_run_keeps_how_it_was_made(suite, maker):
    path = suite.data("target", 1).path
    suite.data = lambda role, seed: PreparedData(path, "hash of the data", resampling=seed)
    do(suite, {"student-distilled-scratch": (1,)})
    run = suite.store.load(key_of(suite, "student-distilled-scratch", 1))
    assert run.measurements == {"accuracy": 80.0, "parameters": 2, "bytes": run.weights.stat().st_size}
    assert run.provenance["name"] == "student-distilled-scratch"
    assert run.provenance["seed"] == 1
    assert run.provenance["profile"] == "tiny"
    assert run.provenance["data"] == PreparedData(path, "hash of the data", resampling=1).identity
    assert run.provenance["parents"] == {"teacher": key_of(suite, "teacher-scratch", 1)}
    assert run.provenance["recipe"]["builder"] == "experiments.builders.distill"
    assert run.provenance["environment"]["threads"] == 1
    assert (run.folder / HISTORY).read_text() == "epoch,loss,training_accuracy,accuracy\n"


def test_a_failure_blocks_what_is_made_from_it_and_nothing_else(suite, maker):
    maker.failing = {(suite.catalog["teacher-scratch"], 0)}
    events = do(suite)
    failed = key_of(suite, "teacher-scratch", 0)
    line = Path(__file__).read_text().splitlines().index('            raise ValueError("too hot")') + 1
    message = f"teacher-scratch (seed 0): ValueError: too hot (test_worker.py, line {line})"
    assert [fields for event, fields in events if event == "failed"] == [{"key": failed, "message": message}]
    made = suite.stored(suite.plan(WANTED))
    blocked = key_of(suite, "student-distilled-scratch", 0)
    assert set(suite.plan(WANTED).runs) - set(made) == {failed, blocked}
    assert suite.store.failure(blocked) is None
    tombstone = suite.store.failure(failed)
    assert (tombstone.name, tombstone.message) == ("teacher-scratch (seed 0)", message)
    assert tombstone.traceback.rstrip().endswith("ValueError: too hot")


def test_weights_that_are_no_numbers_are_a_failure(suite, maker, monkeypatch):
    weights = {"step": torch.tensor(3), "conv.weight": torch.tensor([1.0, torch.nan, -torch.inf])}
    monkeypatch.setattr(worker, "make", lambda context: Built(weights, {"accuracy": 80.0}))
    do(suite, {"student-scratch": (0,)})
    failure = suite.store.failure(key_of(suite, "student-scratch"))
    assert failure.message.endswith("ValueError: 'conv.weight' holds 2 of 3 values that are not finite")


def test_measurements_that_are_no_numbers_are_a_failure(suite, maker, monkeypatch):
    built = Built({"weight": torch.ones(2)}, {"accuracy": 80.0, "relative_error": math.inf})
    monkeypatch.setattr(worker, "make", lambda context: built)
    do(suite, {"student-scratch": (0,)})
    failure = suite.store.failure(key_of(suite, "student-scratch"))
    assert failure.message.endswith("ValueError: measurement 'relative_error' is inf, must be finite")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "MemoryError"),
        (MemoryError("Unable to allocate 74.5 GiB"), "Unable to allocate 74.5 GiB"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nMore"), "CUDA out of memory."),
    ],
)
def test_want_of_memory_is_a_failure_that_tells_what_helps(suite, maker, monkeypatch, error, what):
    def starve(context):
        raise error

    monkeypatch.setattr(worker, "make", starve)
    do(suite, {"student-scratch": (0,)})
    failure = suite.store.failure(key_of(suite, "student-scratch"))
    assert failure.message == f"student-scratch (seed 0): out of memory ({what}); fewer --jobs leave each run more"


def test_a_clock_that_is_set_back_changes_nothing(suite, maker, monkeypatch):
    wall = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(wall)))
    do(suite)
    runs = suite.stored(suite.plan(WANTED))
    assert len(runs) == 5
    assert all(0 <= run.provenance["seconds"] < 60 for run in runs.values())


def test_a_worker_that_waits_ends_where_nobody_listens(suite, maker):
    def emit(event, **fields):
        if event == "waiting":
            raise SystemExit("nobody listens any more")

    with suite.store.lock(key_of(suite, "student-scratch")), pytest.raises(SystemExit):
        do(suite, {"student-scratch": (0,)}, emit)


def test_a_failure_is_not_repeated_until_it_is_forgotten(suite, maker):
    maker.failing = {(suite.catalog["teacher-scratch"], 0)}
    do(suite)
    attempts = len(maker.made)
    assert do(suite) == []
    assert len(maker.made) == attempts
    maker.failing = set()
    suite.store.forget_failure(key_of(suite, "teacher-scratch", 0))
    events = do(suite)
    assert events.keys("done") == [key_of(suite, model) for model in ("teacher-scratch", "student-distilled-scratch")]


def test_a_finished_parent_that_leaves_the_store_is_made_again(suite, maker):
    fill(suite, {"teacher-scratch": (0, 1)})
    children, parents = (
        [key_of(suite, model, seed) for seed in (0, 1)] for model in ("student-distilled-scratch", "teacher-scratch")
    )
    events = Events()

    def emit(event, **fields):
        events(event, **fields)
        if event == "done" and len(events.keys("done")) == 1:
            parent = suite.store.folder(parents[1 - children.index(fields["key"])])
            parent.rename(parent.with_name("gone"))

    do(suite, {"student-distilled-scratch": (0, 1)}, emit)
    first, parent, second = events.keys("done")
    assert {first, second} == set(children)
    assert parent == parents[children.index(second)]
    assert suite.store.failed_keys() == []


@pytest.mark.parametrize("error", [DatasetError("no data"), PermissionError("no data")])
def test_data_that_cannot_be_read_are_no_failure_of_a_run(suite, maker, monkeypatch, error):
    def refuse(suite, planned):
        raise error

    monkeypatch.setattr(worker, "_dataset", refuse)
    with pytest.raises(type(error), match="no data"):
        do(suite)
    assert suite.store.failed_keys() == []


def test_the_wait_for_who_makes_a_run_tells_of_it_and_ends(suite, maker, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.2)
    events = Events()
    key = key_of(suite, "student-scratch")
    holder = f"process {os.getpid()} on "
    with suite.store.lock(key), pytest.raises(StoreError, match=rf"student-scratch \(seed 0\): {holder}.* no progress"):
        do(suite, {"student-scratch": (0,)}, events)
    assert all(fields["holder"].startswith(holder) for _, fields in events)


def test_whoever_leaves_checkpoints_is_waited_for(suite, maker, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.2)
    key = key_of(suite, "student-scratch")
    path = suite.store.checkpoint(key)
    path.parent.mkdir()
    lock = suite.store.lock(key)
    lock.acquire()
    waits = itertools.count(1)

    def emit(event, **fields):
        if event == "waiting":
            path.touch()
            time.sleep(0.05)
            if next(waits) == 10:
                lock.release()

    do(suite, {"student-scratch": (0,)}, emit)
    assert suite.store.load(key)


def test_a_run_that_another_process_makes_is_left_to_it(suite, maker):
    locked = key_of(suite, "student-scratch", 0)
    events = Events()
    holder = suite.store.lock(locked)
    holder.acquire()
    thread = threading.Thread(target=work, args=(suite, suite.plan(WANTED), events))
    thread.start()
    deadline = time.monotonic() + 600
    while len(events.keys("done")) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert thread.is_alive()
    assert locked not in events.keys("start")
    fill(suite, {"student-scratch": (0,)})
    holder.release()
    thread.join(600)
    assert not thread.is_alive()
    assert locked not in events.keys("start")
    assert len(events.keys("done")) == 4


HOLD = """
import pathlib, sys, time
from pytest_claims.store import Store
lock = Store(pathlib.Path(sys.argv[1])).lock(sys.argv[2])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_free(suite, maker):
    key = key_of(suite, "student-scratch", 0)
    command = [sys.executable, "-c", HOLD, str(suite.store.root), key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        held = process.stdout.readline()
        with worker._taken(suite.store, key) as mine:
            process.kill()
    assert (held, mine) == (b"held\n", False)
    assert do(suite, {"student-scratch": (0,)}).keys("done") == [key]


@pytest.mark.parametrize("ended", [KeyboardInterrupt, SystemExit])
def test_an_end_from_outside_is_no_failure_of_the_run(suite, maker, ended):
    def emit(event, **fields):
        if event == "progress":
            raise ended

    with pytest.raises(ended):
        do(suite, emit=emit)
    assert list((suite.store.root / "failed").iterdir()) == []
    assert list((suite.store.root / "runs").iterdir()) == []
    assert len(do(suite).keys("done")) == 5


def test_a_checkpoint_leaves_when_its_run_is_stored_and_stays_when_it_fails(suite, maker):
    wanted = {"student-scratch": (0, 1)}
    kept = [suite.store.checkpoint(key_of(suite, "student-scratch", seed)) for seed in (0, 1)]
    for path in kept:
        write_checkpoint(path, Checkpoint(snapshot(), 5.0))
    maker.failing = {(suite.catalog["student-scratch"], 1)}
    do(suite, wanted)
    assert [path.exists() for path in kept] == [False, True]


def test_seconds_of_a_former_process_count(suite, maker):
    key = key_of(suite, "student-scratch")
    write_checkpoint(suite.store.checkpoint(key), Checkpoint(snapshot(), 500.0))
    maker.resumes = True
    do(suite, {"student-scratch": (0,)})
    assert 500 <= suite.store.load(key).provenance["seconds"] < 510


def test_what_is_wrong_with_the_store_is_no_failure_of_the_run(suite, maker, monkeypatch):
    def full(store, *arguments):
        raise StoreError("run store: cannot write a run (No space left on device)")

    monkeypatch.setattr(Store, "save", full)
    with pytest.raises(StoreError, match="No space left"):
        do(suite, {"student-scratch": (0,)})
    assert suite.store.failure(key_of(suite, "student-scratch")) is None


def test_a_worker_ends_where_nobody_listens():
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    with pytest.raises(SystemExit, match="nobody listens any more"):
        worker._write_event(stream, "start", key="key")
    with suppress(BrokenPipeError):
        stream.close()


def test_being_told_to_end_is_an_exit():
    with pytest.raises(SystemExit) as raised:
        worker._leave(signal.SIGTERM, None)
    assert raised.value.code == 143


NOISY = """
import os, sys
from pytest_claims.workers import worker
make = worker.make
def noisy(context):
    print("Downloading", end="", flush=True)
    os.system("echo from below")
    return make(context)
worker.make = noisy
worker.main(*sys.argv[1:])
"""


@pytest.mark.slow
def test_a_process_tells_of_runs_in_json_lines_whatever_a_library_prints(tmp_path):
    suite = tiny_suite(tmp_path / "store")
    command = [sys.executable, "-c", NOISY, suite.options.to_json(), '{"student": [0]}']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    key = key_of(suite, "student")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"event": "start", "key": key},
        {"event": "done", "key": key},
    ]
    assert done.stderr == "Downloadingfrom below\n"
    assert suite.store.load(key).measurements["parameters"] == 256_779
