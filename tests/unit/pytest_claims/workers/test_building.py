import io
import itertools
import json
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from fake_runs import fill, suite_without_data, tiny_suite
from rich.console import Console
from small_runs import read_only

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import HISTORY, Failure, StoreError
from pytest_claims.workers import building, driver
from pytest_claims.workers.building import build_missing
from pytest_claims.workers.driver import MOST_ATTEMPTS, WorkersError

WANTED = {"student-scratch": (0, 1)}
PREAMBLE = """#!{python}
import json, os, pathlib, signal, sys, time
options, wanted = sys.argv[-2:]
folder = pathlib.Path(json.loads(options)["store"])
def tell(event, **fields):
    print(json.dumps({{"event": event, **fields}}), flush=True)
def first(name):
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
"""


@pytest.fixture
def suite(tmp_path):
    suite = suite_without_data(tmp_path / "store")
    suite.plan(WANTED)  # Python 3.11 fails to parse the code in two threads at once; what was parsed is kept
    return suite


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Puts a script in the place of Python, so that it runs as every worker."""

    def write(body):
        script = tmp_path / "worker"
        script.write_text(PREAMBLE.format(python=sys.executable) + body)
        script.chmod(0o755)
        monkeypatch.setattr(building.sys, "executable", str(script))

    return write


def plain():
    return Console(file=io.StringIO(), width=200)


def lines(console):
    return console.file.getvalue().splitlines()


def plan_keys(suite, wanted=WANTED):
    return {planned.run.title: key for key, planned in suite.plan(wanted).runs.items()}


def test_what_the_store_has_is_not_made_again(suite, worker):
    fill(suite, WANTED)
    worker("first('started')")
    console = plain()
    build_missing(suite, WANTED, 2, console)
    assert lines(console) == []
    assert not (suite.store.root / "started").exists()


def test_a_read_only_store_serves_what_it_has_and_starts_no_worker_for_what_it_lacks(suite, worker):
    keys = fill(suite, {"student-scratch": (0,)}).runs
    worker("first('started')")
    with read_only(suite.store.root) as root:
        denied = suite_without_data(root)
        build_missing(denied, {"student-scratch": (0,)}, 2, plain())
        assert denied.stored(denied.plan({"student-scratch": (0,)})).keys() == keys.keys()
        with pytest.raises(StoreError, match=r"run store .: cannot be written to \(Permission denied\)"):
            build_missing(denied, WANTED, 2, plain())
    assert not (suite.store.root / "started").exists()


def test_what_failed_before_is_not_tried_nor_what_is_made_from_it(suite, worker):
    wanted = {"student-distilled-scratch": (0, 1)}
    fill(suite, {"teacher-scratch": (1,)})
    failed = suite.plan(wanted).runs[plan_keys(suite, wanted)["teacher-scratch (seed 0)"]]
    suite.store.record_failure(failed.key, Failure(failed.run.title, "too hot", "Traceback"))
    worker("first('started')")
    console = plain()
    build_missing(suite, wanted, 2, console)
    assert lines(console) == ["1 of 4 runs to make, 1 at a time"]
    fill(suite, {"student-distilled-scratch": (1,)})
    (suite.store.root / "started").unlink()
    build_missing(suite, wanted, 2, console)
    assert not (suite.store.root / "started").exists()


def test_workers_are_given_the_options_and_what_is_wanted(suite, worker):
    worker("(folder / 'arguments').write_text(json.dumps(sys.argv))")
    build_missing(suite, WANTED, 1, plain())
    arguments = json.loads((suite.store.root / "arguments").read_text())
    assert arguments[1:-2] == ["-P", "-m", "pytest_claims.workers.worker"]
    assert type(suite.options).from_json(arguments[-2]) == suite.options
    assert json.loads(arguments[-1]) == {"student-scratch": [0, 1]}


def test_workers_compute_on_one_thread_with_this_code(suite, worker, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    worker("(folder / 'environment').write_text(json.dumps(dict(os.environ)))")
    build_missing(suite, WANTED, 1, plain())
    environment = json.loads((suite.store.root / "environment").read_text())
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("1", "1")
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]


CHOICES_OF_KERNELS = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
"""On a CPU with AVX2 torch sums in another order with these."""


def test_workers_are_told_nothing_that_chooses_kernels(suite, worker, monkeypatch):
    for name, value in {**CHOICES_OF_KERNELS, "DNNL_MAX_CPU_ISA": "SSE41", "UNRELATED": "kept"}.items():
        monkeypatch.setenv(name, value)
    worker("(folder / 'environment').write_text(json.dumps(dict(os.environ)))")
    build_missing(suite, WANTED, 1, plain())
    environment = json.loads((suite.store.root / "environment").read_text())
    assert environment.keys().isdisjoint({*CHOICES_OF_KERNELS, "DNNL_MAX_CPU_ISA"})
    assert environment["UNRELATED"] == "kept"


@pytest.mark.slow
def test_real_workers_make_the_same_bytes_whatever_their_session_was_told_of_kernels(tmp_path, monkeypatch):
    weights = []
    for store, told in (("plain", {}), ("told", CHOICES_OF_KERNELS)):
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        suite = tiny_suite(tmp_path / store)
        wanted = {"student-scratch": (0,)}
        build_missing(suite, wanted, 1, plain())
        (run,) = suite.stored(suite.plan(wanted)).values()
        weights.append((run.key, run.weights.read_bytes(), (run.folder / HISTORY).read_bytes()))
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("jobs", "started"), [(1, 1), (2, 2), (8, 2)])
def test_no_more_workers_are_started_than_there_are_runs_to_make(suite, worker, jobs, started):
    worker("(folder / f'worker-{os.getpid()}').touch()")
    console = plain()
    build_missing(suite, WANTED, jobs, console)
    assert len(list(suite.store.root.glob("worker-*"))) == started
    assert lines(console) == [f"2 of 2 runs to make, {started} at a time"]


def test_each_worker_has_a_slot_of_its_own_which_its_replacement_takes(suite, worker, monkeypatch):
    monkeypatch.setattr(building, "slot_environment", lambda device, slot: {"SLOT": f"{device}-{slot}"})
    worker("""
(folder / f"slot-{os.environ['SLOT']}-{os.getpid()}").touch()
while len(list(folder.glob("slot-*"))) < 2:
    time.sleep(0.02)
if first("killed"):
    os.kill(os.getpid(), signal.SIGKILL)
while len(list(folder.glob("slot-*"))) < 3:
    time.sleep(0.02)
""")
    build_missing(suite, WANTED, 2, plain())
    slots = sorted(path.name.rpartition("-")[0] for path in suite.store.root.glob("slot-*"))
    assert slots in (["slot-cpu-0", "slot-cpu-0", "slot-cpu-1"], ["slot-cpu-0", "slot-cpu-1", "slot-cpu-1"])


def test_there_is_a_line_for_each_finished_run_and_no_other(suite, worker):
    first, second = plan_keys(suite).values()
    worker(f"""
tell("start", key="{first}")
for share in (0.25, 0.5, 0.75, 1.0):
    tell("progress", key="{first}", share=share, images=10, accuracy=50.0)
tell("done", key="{first}")
tell("start", key="{second}")
tell("failed", key="{second}", message="two: ValueError: [red]too hot[/red]")
""")
    console = plain()
    build_missing(suite, WANTED, 1, console)
    _, done, failed = lines(console)
    assert done.startswith("[1/2] done student-scratch (seed 0); ")
    assert failed.startswith("[2/2] failed two: ValueError: [red]too hot[/red]; ")


def test_a_worker_that_fails_is_an_error_with_the_end_of_what_it_wrote(suite, worker):
    worker("""
for number in range(200):
    print("line", number, file=sys.stderr)
sys.exit(3)
""")
    with pytest.raises(WorkersError) as raised:
        build_missing(suite, WANTED, 1, plain())
    first, *rest = str(raised.value).splitlines()
    assert first == "a worker ended with status 3"
    assert rest == [f"line {number}" for number in range(150, 200)]


def test_what_is_no_event_is_no_harm(suite, worker):
    worker("""
print("Downloading")
sys.stderr.buffer.write(b"caf\\xe9\\n")
sys.exit(3)
""")
    with pytest.raises(WorkersError) as raised:
        build_missing(suite, WANTED, 1, plain())
    assert sorted(str(raised.value).splitlines()[1:]) == ["Downloading", "caf\N{REPLACEMENT CHARACTER}"]


def test_a_killed_worker_is_replaced(suite, worker):
    worker("""
if first("killed"):
    (folder / "pid").write_text(str(os.getpid()))
    print("loading", file=sys.stderr, flush=True)
    (folder / "ready").touch()
    time.sleep(600)
""")
    killer = threading.Thread(target=kill_when_ready, args=(suite.store.root,))
    killer.start()
    console = plain()
    build_missing(suite, WANTED, 1, console)
    killer.join()
    assert lines(console)[1:] == [
        "warning: a worker was ended by SIGKILL; another one takes its place",
        "loading",
    ]


def kill_when_ready(folder):
    wait_for(folder / "ready")
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


def wait_for(path, seconds=600):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


KILLED_WHILE_MAKING = """
(folder / f"worker-{{os.getpid()}}").touch()
if not (folder / "failed" / "{key}.json").exists():
    tell("start", key="{key}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_kills_every_worker_fails_and_the_others_are_made(suite, worker):
    key = plan_keys(suite)["student-scratch (seed 0)"]
    worker(KILLED_WHILE_MAKING.format(key=key))
    console = plain()
    build_missing(suite, WANTED, 1, console)
    failure = suite.store.failure(key)
    expected = "student-scratch (seed 0): 3 workers were killed while making it, such as for want of memory"
    assert failure.message == expected
    assert "a worker was ended by SIGKILL" in failure.traceback
    assert len(list(suite.store.root.glob("worker-*"))) == MOST_ATTEMPTS + 1
    (line,) = (line for line in lines(console) if line.startswith("["))
    assert line.startswith(f"[1/2] failed {expected}; ")


def test_workers_that_are_killed_before_they_begin_are_an_error(suite, worker):
    worker("""
(folder / f"worker-{os.getpid()}").touch()
os.kill(os.getpid(), signal.SIGKILL)
""")
    with pytest.raises(WorkersError, match=r"\Aa worker was ended by SIGKILL\Z"):
        build_missing(suite, WANTED, 1, plain())
    assert len(list(suite.store.root.glob("worker-*"))) == MOST_ATTEMPTS


def test_a_worker_that_is_told_to_end_is_replaced(suite, worker):
    worker("if first('told'):\n    sys.exit(143)")
    console = plain()
    build_missing(suite, WANTED, 1, console)
    assert lines(console)[1:] == ["warning: a worker was ended by SIGTERM; another one takes its place"]


def test_kills_between_runs_are_counted_anew_after_a_run(suite, worker):
    key = plan_keys(suite)["student-scratch (seed 0)"]
    worker(f"""
kills = len(list(folder.glob("kill-*")))
if kills < 2 * {MOST_ATTEMPTS - 1}:
    if kills == {MOST_ATTEMPTS - 1}:
        tell("start", key="{key}")
        tell("done", key="{key}")
    (folder / f"kill-{{kills}}").touch()
    os.kill(os.getpid(), signal.SIGKILL)
""")
    console = plain()
    build_missing(suite, WANTED, 1, console)
    assert len(list(suite.store.root.glob("kill-*"))) == 2 * (MOST_ATTEMPTS - 1)


def test_what_several_workers_find_wrong_is_told_once_and_alone(suite, worker):
    worker("""
tell("error", message="run store x: cannot write a run (No space left on device)")
print("a library's last words", file=sys.stderr)
sys.exit(1)
""")
    with pytest.raises(WorkersError) as raised:
        build_missing(suite, WANTED, 2, plain())
    assert str(raised.value) == "run store x: cannot write a run (No space left on device)"


def test_a_worker_that_fails_is_a_warning_where_others_have_made_the_rest(suite, worker):
    worker("""
if first("failed-early"):
    sys.exit(3)
while not (folder / "whole").exists():
    time.sleep(0.02)
""")
    filler = threading.Thread(target=fill_after, args=(suite,))
    filler.start()
    console = plain()
    build_missing(suite, WANTED, 2, console)
    filler.join()
    assert lines(console)[-2:] == ["warning: a worker ended with status 3", "other workers have made what it left"]


def fill_after(suite):
    wait_for(suite.store.root / "failed-early")
    fill(suite, WANTED)
    (suite.store.root / "whole").touch()


def test_what_another_session_makes_is_shown(suite, worker, monkeypatch):
    monkeypatch.setattr(driver, "_SECONDS_BETWEEN_LOOKS", 0.0)
    worker("""
while not (folder / "shown").exists():
    time.sleep(0.02)
""")
    console = plain()

    def fill_and_wait():
        fill(suite, {"student-scratch": (1,)})
        deadline = time.monotonic() + 600
        while "[1/2] done student-scratch (seed 1)" not in console.file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        (suite.store.root / "shown").touch()

    other = threading.Thread(target=fill_and_wait)
    other.start()
    build_missing(suite, WANTED, 1, console)
    other.join()
    assert lines(console)[1].startswith("[1/2] done student-scratch (seed 1); ")


def test_what_another_session_made_in_the_last_moment_is_shown(suite, worker):
    failed, _ = plan_keys(suite).values()
    worker("""
(folder / "begun").touch()
while not (folder / "whole").exists():
    time.sleep(0.02)
""")
    console = plain()

    def fill_and_end():
        while not (suite.store.root / "begun").exists():
            time.sleep(0.02)
        fill(suite, {"student-scratch": (1,)})
        suite.store.record_failure(failed, Failure("student-scratch (seed 0)", "too hot", "Traceback"))
        (suite.store.root / "whole").touch()

    other = threading.Thread(target=fill_and_end)
    other.start()
    build_missing(suite, WANTED, 1, console)
    other.join()
    assert {line.partition("] ")[2].partition(";")[0] for line in lines(console)[1:]} == {
        "done student-scratch (seed 1)",
        "failed too hot",
    }


def test_other_sessions_are_looked_at_however_much_is_told(suite, worker, monkeypatch):
    monkeypatch.setattr(driver, "_SECONDS_BETWEEN_LOOKS", 0.0)
    mine, other = plan_keys(suite).values()
    fill(suite, {"student-scratch": (1,)})
    made = suite.store.load(other).folder
    made.rename(made.with_name("elsewhere"))
    worker(f"""
tell("start", key="{mine}")
(folder / "runs" / "elsewhere").rename(folder / "runs" / "{other}")
for _ in range(100):
    tell("progress", key="{mine}", share=0.5, images=10, accuracy=None)
    time.sleep(0.01)
tell("done", key="{mine}")
""")
    console = plain()
    build_missing(suite, WANTED, 1, console)
    assert [line.partition(";")[0] for line in lines(console)[1:]] == [
        "[1/2] done student-scratch (seed 1)",
        "[2/2] done student-scratch (seed 0)",
    ]


def test_what_a_worker_tells_late_is_not_shown_again(suite, worker, monkeypatch):
    monkeypatch.setattr(driver, "_SECONDS_BETWEEN_LOOKS", 0.0)
    key = plan_keys(suite)["student-scratch (seed 0)"]
    fill(suite, {"student-scratch": (0,)})
    made = suite.store.load(key).folder
    made.rename(made.with_name("elsewhere"))
    worker(f"""
tell("start", key="{key}")
(folder / "runs" / "elsewhere").rename(folder / "runs" / "{key}")
tell("warning", message="look")
time.sleep(0.5)
tell("progress", key="{key}", share=1.0, images=10, accuracy=50.0)
tell("done", key="{key}")
""")
    build_missing(suite, WANTED, 1, Console(file=io.StringIO(), force_terminal=True, width=120))
    made.rename(made.with_name("elsewhere"))
    console = plain()
    build_missing(suite, WANTED, 1, console)
    told = [line.partition(";")[0] for line in lines(console)[1:]]
    assert sorted(told) == ["[1/2] done student-scratch (seed 0)", "warning: look"]


def test_each_dead_worker_is_told_of(suite, worker):
    worker("sys.exit(2 if first('dead') else 3)")
    with pytest.raises(WorkersError) as raised:
        build_missing(suite, WANTED, 2, plain())
    assert sorted(str(raised.value).splitlines()) == ["a worker ended with status 2", "a worker ended with status 3"]


INTERRUPTED = """
{before}
(folder / f"pid-{{os.getpid()}}").touch()
tell("start", key="{key}")
time.sleep(600)
"""


def interrupt_build(suite, worker, monkeypatch, before=""):
    """Builds, and raises KeyboardInterrupt at the first event."""
    worker(INTERRUPTED.format(before=before, key=next(iter(plan_keys(suite).values()))))

    class Interrupting:
        def show(self, event):
            raise KeyboardInterrupt

        def tick(self):
            pass

    monkeypatch.setattr(driver, "display", lambda *_: nullcontext(Interrupting()))
    console = plain()
    with pytest.raises(KeyboardInterrupt):
        build_missing(suite, WANTED, 2, console)
    assert lines(console)[1:] == ["interrupted: what was made is kept, and the next session goes on from there"]
    return [int(path.name.removeprefix("pid-")) for path in suite.store.root.glob("pid-*")]


def test_an_interrupted_build_ends_its_workers(suite, worker, monkeypatch):
    leave = "signal.signal(signal.SIGTERM, lambda *_: (folder / f'left-{os.getpid()}').touch() or sys.exit(143))"
    pids = interrupt_build(suite, worker, monkeypatch, before=leave)
    left = {int(path.name.removeprefix("left-")) for path in suite.store.root.glob("left-*")}
    assert pids
    assert set(pids) <= left
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_that_does_not_end_when_told_to_is_killed(suite, worker, monkeypatch):
    monkeypatch.setattr(building, "_SECONDS_TO_END", 0.1)
    pids = interrupt_build(suite, worker, monkeypatch, before="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_that_cannot_start_leaves_none_running(suite, worker, monkeypatch):
    worker("(folder / f'pid-{os.getpid()}').touch()\ntime.sleep(600)")
    starts = itertools.count()
    start = building.subprocess.Popen

    def start_once(*arguments, **keywords):
        if next(starts):
            wait = suite.store.root.glob("pid-*")
            while not list(wait):
                time.sleep(0.02)
                wait = suite.store.root.glob("pid-*")
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(*arguments, **keywords)

    monkeypatch.setattr(building.subprocess, "Popen", start_once)
    with pytest.raises(WorkersError, match=r"^a worker cannot be started \(Resource temporarily unavailable\)"):
        build_missing(suite, WANTED, 2, plain())
    (path,) = suite.store.root.glob("pid-*")
    assert not Path(f"/proc/{path.name.removeprefix('pid-')}").exists()
