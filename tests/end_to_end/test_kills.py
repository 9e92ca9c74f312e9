import fcntl
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest
from student_sessions import LONGER, SEEDS, StudentProject, ended, made, signal_all, wait_until, workers_of

from pytest_claims.keys.code_fingerprint import ROOT


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return StudentProject(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def undisturbed(project, tmp_path_factory):
    """What the runs consist of where nobody disturbs the session that makes them."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    session = project.run(store, "--jobs=1")
    assert (session.status, session.errors) == (0, "")
    assert len(session.done()) == SEEDS
    return made(store)


def test_sessions_that_are_killed_are_finished_by_the_next_with_the_same_bytes(project, undisturbed, tmp_path):
    chance, store = random.Random(3), tmp_path / "store"

    def disturbed(*acts):
        """A session in which each happens at some moment of a training."""
        # Without a pause after each checkpoint a busy machine would have trained on before it is seen.
        session = project.start(store, "--jobs=1", WORKER_PAUSE="0.3")
        for act in acts:
            wait_for_checkpoints(store, chance.randint(1, 2))
            act(session)
        finished = ended(session)
        wait_until(lambda: not workers_of(store))
        assert made(store).items() <= undisturbed.items()
        return finished

    def kill_a_worker(session):
        os.kill(workers_of(store)[0], signal.SIGKILL)

    def tell_a_worker_to_end(session):
        os.kill(workers_of(store)[0], signal.SIGTERM)

    warned = disturbed(kill_a_worker, tell_a_worker_to_end, lambda session: signal_all(session, signal.SIGKILL))
    assert warned.status == -signal.SIGKILL
    for number in (signal.SIGKILL, signal.SIGTERM):
        assert f"warning: a worker was ended by {number.name}; another one takes its place" in warned.output
    assert disturbed(lambda session: session.kill()).status == -signal.SIGKILL
    assert disturbed(lambda session: signal_all(session, signal.SIGINT)).status == pytest.ExitCode.INTERRUPTED
    assert disturbed(lambda session: session.terminate()).status == -signal.SIGTERM
    last = project.run(store, "-n2")
    assert (last.status, last.errors) == (0, "")
    assert made(store) == undisturbed
    assert list((store / "failed").iterdir()) == []
    assert list((store / "checkpoints").iterdir()) == []


def wait_for_checkpoints(store, count):
    """Waits until so many have been written, each in the place of the one before."""
    seen = set()

    def written():
        for path in store.glob("checkpoints/[!.]*"):
            try:
                seen.add(path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
        return len(seen) > count

    wait_until(written)


# Workers that share the import of all they need, which takes a hundred times as long as what they make.
FORKING = """
import gc, importlib, json, os, pathlib, random, shutil, signal, sys, time
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.project import ProjectPlace
from pytest_claims.suite.suite import Suite, SuiteOptions
from pytest_claims.training import checkpoints
from pytest_claims.workers import worker
checkpoints.SECONDS_BETWEEN, checkpoints.COST_LIMIT = 0.0, 1e9
store = pathlib.Path(sys.argv[1])
wanted = json.loads(sys.argv[2])
suite = Suite(SuiteOptions(ProjectPlace("experiments.project", (ROOT,)), "tiny", store))
plan = suite.plan(wanted)
suite.plan, suite.store = lambda wanted: plan, suite.store
worker.Suite = lambda options: suite
worker.make_deterministic()
for planned in plan.runs.values():
    importlib.import_module(planned.run.recipe.builder)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may have been told to ignore it
gc.collect()
gc.freeze()  # else each worker's collector writes to, and so copies, all that torch consists of

def start(prepare=lambda: None):
    pid = os.fork()
    if pid:
        return pid
    try:
        prepare()
        worker.main(suite.options.to_json(), sys.argv[2])
    except BaseException as error:
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 70)
    os._exit(0)

def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def forget():
    for path in (path for name in ("datasets", "runs", "checkpoints") for path in store.glob(f"{name}/*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
"""

KILLING = """
kills, chance = [], random.Random(11)
while len(kills) < 20:
    workers = [start(), start()]
    time.sleep(chance.uniform(0, 0.25))
    number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    chosen = workers if chance.random() < 0.3 else workers[:1]
    for pid in chosen:
        os.kill(pid, number)
    kills += [(number, end(pid)) for pid in chosen]
    for pid in workers[len(chosen):]:
        os.kill(pid, signal.SIGKILL)
        end(pid)
    if all(suite.store.holds(key) for key in plan.runs):
        forget()
last = [start(), start()]
print(json.dumps({"kills": kills, "last": [end(pid) for pid in last]}))
"""


def forked(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_workers_that_are_killed_at_any_moment_cost_no_byte(undisturbed, tmp_path):
    told = forked(LONGER + FORKING + KILLING, tmp_path, json.dumps({"student-scratch": list(range(SEEDS))}))
    ends = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: 70}
    as_signalled = [how == ends[number] for number, how in told["kills"]]
    assert sum(as_signalled) >= 10, "others had ended, or had not begun, before they were signalled"
    assert told["last"] == [0, 0]
    assert made(tmp_path) == undisturbed
    assert list((tmp_path / "failed").iterdir()) == []
    assert list((tmp_path / "checkpoints").iterdir()) == []


# What changes a file or a folder is counted, and the process ends just before the one of a given number. The library of
# locks may first try one on a file of another name, or of none: that changes nothing of the store.
POWER_LOSS = """
from pytest_claims.store import MANIFEST
writing = os.O_WRONLY | os.O_RDWR
calls, locks, flushed, unflushed = [], [], set(), []

def path_of(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")

def changed(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[2] & writing:
        return None if arguments[2] & os.O_TMPFILE == os.O_TMPFILE else arguments[0]
    if event == "fcntl.flock" and (path := path_of(arguments[0])).endswith(".lock"):
        return path
    return arguments[0] if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate") else None

def count(event, path, last):
    if str(store) not in str(path):
        return False
    calls.append(event)
    if len(calls) == last:
        os._exit(9)
    return True

def lose_power_before(last):
    def hook(event, arguments):
        path = changed(event, arguments)
        if path is None or not count(event, path, last):
            return
        if event == "fcntl.flock":
            locks.append((pathlib.Path(path).name, arguments[1]))
        if event == "open":
            flushed.discard(path)
        if event == "os.rename":
            source = pathlib.Path(arguments[0])
            unflushed.extend(str(p) for p in (source, *source.glob("*")) if str(p) not in flushed)
    flush = os.fsync
    def fsync(descriptor):
        path = path_of(descriptor)
        count("fsync", path, last)
        flush(descriptor)
        flushed.add(path)
    os.fsync = fsync
    sys.addaudithook(hook)

def watched(last):
    lose_power_before(last)
    if last is None:
        import atexit
        leave = os._exit
        def tell(status):
            (store / "changes.json").write_text(json.dumps({"calls": calls, "locks": locks, "unflushed": unflushed}))
            leave(status)
        os._exit = tell

def files():
    (folder,) = (path for path in store.glob("runs/[!.]*"))
    assert suite.store.load(folder.name)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}

end(start(lambda: watched(None)))
undisturbed = files()
told = json.loads((store / "changes.json").read_text())
told["ends"] = []
for last in range(1, len(told["calls"]) + 1):
    forget()
    told["ends"].append([end(start(lambda: watched(last))), end(start()), files() == undisturbed])
print(json.dumps(told))
"""


def test_power_lost_between_any_two_changes_of_the_disk_costs_no_byte(tmp_path):
    told = forked(FORKING + POWER_LOSS, tmp_path, json.dumps({"student-scratch": [0]}))
    happened = Counter(told["calls"])
    assert happened["os.rename"] == 4, "the images, a checkpoint, weights, the run"
    assert happened["fcntl.flock"] == 6
    (key,) = (path.name for path in tmp_path.glob("runs/[!.]*"))
    taken, freed = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN
    temporary, *_ = (name for name, _ in told["locks"] if name.startswith(".partial-"))
    expected = {(lock, act): 1 for lock in (f"{key}.lock", temporary, "placing.lock") for act in (taken, freed)}
    assert Counter(map(tuple, told["locks"])) == expected
    assert happened["fsync"] >= 7
    assert told["unflushed"] == []
    assert {tuple(end) for end in told["ends"]} == {(9, 0, True)}
