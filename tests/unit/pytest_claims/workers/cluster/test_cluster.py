import io
import os
import shutil
import signal
import tempfile
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import ray
from fake_runs import fill, suite_without_data
from our_project import OURS
from ray.cluster_utils import Cluster as Nodes
from rich.console import Console
from student_sessions import wait_until

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.keys.numerics import numerics_environment
from pytest_claims.store import HISTORY, MEASUREMENTS, WEIGHTS, Failure, StoreError, run_files
from pytest_claims.suite.suite import Suite, SuiteOptions
from pytest_claims.workers import driver
from pytest_claims.workers.building import build_missing
from pytest_claims.workers.cluster import cluster as cluster_module
from pytest_claims.workers.cluster.cluster import build_on_cluster
from pytest_claims.workers.cluster.resources import Cluster, ClusterError, Demand
from pytest_claims.workers.cluster.task import Job, Made, make_on_node, session_folder
from pytest_claims.workers.driver import MOST_ATTEMPTS

pytestmark = pytest.mark.slow

QUICK_TO_MISS_A_NODE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 600_000,
}


@pytest.fixture(scope="module")
def node_folder():
    """Where nodes put temporary files; short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes(node_folder):
    """A cluster of two nodes with a core each; sessions join it by way of the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(node_folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        options = {"include_dashboard": False, "temp_dir": str(node_folder / "ray")}
        cluster = Nodes(initialize_head=True, head_node_args={**options, "_system_config": QUICK_TO_MISS_A_NODE})
        cluster.add_node()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def here(nodes):
    return Cluster(nodes.address)


def plain():
    return Console(file=io.StringIO(), width=200)


def lines(console):
    return console.file.getvalue().splitlines()


@pytest.fixture
def suite(tmp_path):
    """A suite whose data sets are only a few bytes."""
    suite = suite_without_data(tmp_path / "store")
    (tmp_path / "store").mkdir(exist_ok=True)
    for role in ("target", "source"):
        suite.data(role, 0).path.write_bytes(f"images of {role}".encode())
    return suite


def filled(folder, wanted):
    """The files of runs as they would be made, by key."""
    other = suite_without_data(folder)
    return {key: run_files(other.store.load(key)) for key in fill(other, wanted, lambda *_: {"accuracy": 80.0}).runs}


def keys(suite, wanted):
    return {planned.run.title: key for key, planned in suite.plan(wanted).runs.items()}


def test_runs_come_back_whatever_happens_to_their_workers(suite, here, tmp_path, node_folder, monkeypatch):
    wanted = {"student-distilled-scratch": (0, 1), "student-scratch": (0, 1, 2, 3)}
    files, by_title = filled(tmp_path / "elsewhere", wanted), keys(suite, wanted)
    raising, locked = by_title["teacher-scratch (seed 1)"], by_title["student-scratch (seed 3)"]
    once = by_title["student-scratch (seed 0)"]
    always = by_title["student-scratch (seed 1)"]
    corrupted = by_title["student-scratch (seed 2)"]

    def make(job, events, data, weights, *parents):
        import experiments

        key = job.planned.key
        note = tmp_path / f"{key}-{len(list(tmp_path.glob(f'{key}-*')))}"
        note.write_text(f"{experiments.__file__}\n{os.environ['OMP_NUM_THREADS']}")
        assert bytes(data) == b"images of target"
        assert weights is None
        assert list(parents) == [files[parent] for parent in job.planned.parents.values()]
        if key == raising:
            return Failure("teacher", "teacher: too hot", "Traceback")
        if key == always or (key == once and note.name.endswith("-0")):
            os.kill(os.getpid(), signal.SIGKILL)
        if key == corrupted and note.name.endswith("-0"):
            return Made("east", {**files[key], WEIGHTS: b"other"})
        return Made("east", files[key])

    sent = []

    def note_and_make_job(session, planned, *others):
        sent.append(planned.run.title)
        return Job(session, planned, *others)

    monkeypatch.setattr(cluster_module, "make_on_node", make)
    monkeypatch.setattr(cluster_module, "Job", note_and_make_job)
    console = plain()
    with made_by_another_session(suite, locked, files[locked], threading.Event(), until=once):
        build_on_cluster(suite, wanted, here, console)

    assert sent[:2] == ["teacher-scratch (seed 0)", "teacher-scratch (seed 1)"]  # the longest ways to go
    made = set(by_title.values()) - {raising, always, by_title["student-distilled-scratch (seed 1)"]}
    assert {key: run_files(run) for key, run in suite.stored(suite.plan(wanted)).items()} == {k: files[k] for k in made}
    assert suite.store.failure(raising).message == "teacher: too hot"
    assert "was lost 3 times" in suite.store.failure(always).message
    attempts = {title: len(list(tmp_path.glob(f"{key}-*"))) for title, key in by_title.items()}
    assert attempts == {
        "teacher-scratch (seed 0)": 1,
        "teacher-scratch (seed 1)": 1,
        "student-distilled-scratch (seed 0)": 1,
        "student-distilled-scratch (seed 1)": 0,
        "student-scratch (seed 0)": 2,
        "student-scratch (seed 1)": MOST_ATTEMPTS,
        "student-scratch (seed 2)": 2,
        "student-scratch (seed 3)": 0,
    }
    text = console.file.getvalue()
    assert lines(console)[0] == "8 of 8 runs to make on Ray, up to 2 at a time"
    assert "warning: student-scratch (seed 2): lost (node east sent no whole run: " in text
    assert text.count("warning: student-scratch (seed 1): lost (WorkerCrashedError: ") == MOST_ATTEMPTS - 1
    for note in tmp_path.glob(f"{once}-*"):
        package, threads = note.read_text().splitlines()
        assert not Path(package).is_relative_to(ROOT)
        assert threads == "1"
    assert list(node_folder.glob("pytest-claims-*")) == []


@contextmanager
def made_by_another_session(suite, key, files, over, until=None):
    """Holds the lock of a run until it is over, or another run is finished; then stores the run."""
    taken = threading.Event()

    def hold():
        other = suite_without_data(suite.options.store).store
        with other.lock(key):
            taken.set()
            while not (over.is_set() or (until and other.holds(until))):
                time.sleep(0.02)
            other.add(key, files)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(600)
    try:
        yield
    finally:
        over.set()
        holder.join()


class Recording:
    """A display that remembers what it was told."""

    def __init__(self):
        self.events = []

    def show(self, event):
        self.events.append(event)

    def tick(self):
        pass

    def of(self, key):
        return [event for event in self.events if event.get("key") == key]


def test_an_interrupted_session_leaves_nothing_running_and_no_lock(suite, here, tmp_path, node_folder, monkeypatch):
    wanted = {"student-scratch": (0, 1)}

    def make(job, events, data, weights):
        folder = session_folder(job.session, ray.get_runtime_context().get_node_id())
        folder.mkdir()
        (tmp_path / f"pid-{os.getpid()}").touch()
        events.put({"event": "start", "key": job.planned.key})
        time.sleep(600)

    class Interrupting(Recording):
        def show(self, event):
            super().show(event)
            if [event["event"] for event in self.events] == ["start", "start"]:
                raise KeyboardInterrupt

    monkeypatch.setattr(cluster_module, "make_on_node", make)
    monkeypatch.setattr(driver, "display", lambda *_: nullcontext(Interrupting()))
    with pytest.raises(KeyboardInterrupt):
        build_on_cluster(suite, wanted, here, plain())
    pids = [path.name.removeprefix("pid-") for path in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    for key in keys(suite, wanted).values():
        with suite.store.lock(key).acquire(blocking=False):
            assert not suite.store.holds(key)
    assert list(node_folder.glob("pytest-claims-*")) == []
    assert not ray.is_initialized()


def test_who_makes_all_that_is_left_is_told(suite, here, tmp_path, monkeypatch):
    wanted = {"student-scratch": (0,)}
    ((key, files),) = filled(tmp_path / "elsewhere", wanted).items()
    over = threading.Event()

    class Waiting(Recording):
        def show(self, event):
            super().show(event)
            if event["event"] == "waiting":
                over.set()

    shown = Waiting()
    monkeypatch.setattr(driver, "display", lambda *_: nullcontext(shown))
    with made_by_another_session(suite, key, files, over):
        build_on_cluster(suite, wanted, here, plain())
    *waiting, done = shown.events
    assert done == {"event": "done", "key": key}
    assert {(event["event"], event["holder"].partition(" on ")[0]) for event in waiting} == {
        ("waiting", f"process {os.getpid()}")
    }


def test_a_node_that_would_compute_otherwise_ends_the_session(suite, here, monkeypatch):
    driver = {**numerics_environment("cpu"), "torch": "1.0"}
    monkeypatch.setattr(cluster_module, "numerics_environment", lambda device: driver)
    with pytest.raises(ClusterError, match=r"--ray .*: node .*\(.*\): would make student.* torch is '.*', not '1\.0'"):
        build_on_cluster(suite, {"student-scratch": (0,)}, here, plain())
    assert list((suite.store.root / "runs").iterdir()) == []
    assert list((suite.store.root / "failed").iterdir()) == []


def test_what_is_wrong_with_a_node_is_no_runs_failure(suite, here, monkeypatch):
    def make(job, events, *files):
        raise StoreError("the disk is full")

    monkeypatch.setattr(cluster_module, "make_on_node", make)
    message = r"(?s)student-scratch \(seed 0\): a node of the cluster failed: .*StoreError: the disk is full"
    with pytest.raises(ClusterError, match=message):
        build_on_cluster(suite, {"student-scratch": (0,)}, here, plain())
    assert list((suite.store.root / "failed").iterdir()) == []


def test_without_room_for_a_run_none_is_sent_out(tmp_path, monkeypatch):
    suite = suite_without_data(tmp_path / "store")
    gpu_suite = type(suite)(SuiteOptions(OURS, "tiny", tmp_path / "store", device="cuda"))
    gpu_suite.data = suite.data
    monkeypatch.setattr("pytest_claims.keys.numerics.gpu_model", lambda: "NVIDIA A")
    monkeypatch.setattr(cluster_module, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(cluster_module.ray, "nodes", lambda: [{"Alive": False, "Resources": {"CPU": 8.0, "GPU": 1.0}}])
    with pytest.raises(ClusterError, match=r"--ray HOST:1: none of the cluster's nodes has 1 CPU and a GPU"):
        build_on_cluster(gpu_suite, {"student-scratch": (0,)}, Cluster("HOST:1"), plain())


@pytest.mark.parametrize(("jobs", "room"), [(None, 6), (9, 6), (2, 2)])
def test_jobs_are_the_most_runs_at_once(monkeypatch, jobs, room):
    nodes = [{"Alive": True, "Resources": {"CPU": float(cpus)}} for cpus in (4, 2)]
    monkeypatch.setattr(cluster_module.ray, "nodes", lambda: nodes)
    assert cluster_module._room(Cluster("HOST:1", jobs), Demand(1, 0)) == room


def test_what_the_store_has_needs_no_cluster(suite):
    fill(suite, {"student-scratch": (0,)})
    console = plain()
    build_on_cluster(suite, {"student-scratch": (0,)}, Cluster("nowhere"), console)
    assert lines(console) == []


def test_a_node_that_is_killed_while_it_trains_costs_no_run_and_no_byte(
    nodes, here, tmp_path, node_folder, monkeypatch
):
    wanted = {"student-scratch": (0, 1)}
    # Several epochs a run: so there is a checkpoint while it trains.
    alone, suite = (Suite(SuiteOptions(OURS, "quick", tmp_path / name)) for name in ("alone", "store"))
    build_missing(alone, wanted, 1, plain())
    shutil.copytree(tmp_path / "alone" / "datasets", tmp_path / "store" / "datasets")
    (doomed,) = nodes.worker_nodes

    def make(*arguments):
        """Makes a run; on the doomed node it waits for the node's end once there is a checkpoint."""
        from pytest_claims.training import checkpoints
        from pytest_claims.workers import run_watcher

        def write_and_wait(*checkpoint):
            checkpoints.write_checkpoint(*checkpoint)
            if ray.get_runtime_context().get_node_id() == doomed_id:
                time.sleep(600)

        run_watcher.write_checkpoint = write_and_wait
        return make_on_node(*arguments)

    doomed_id = doomed.node_id
    monkeypatch.setattr(cluster_module, "make_on_node", make)
    killer = threading.Thread(target=kill_when_it_works, args=(doomed, node_folder))
    killer.start()
    shown = Recording()
    monkeypatch.setattr(driver, "display", lambda *_: nullcontext(shown))
    build_on_cluster(suite, wanted, here, plain())
    killer.join()
    assert not doomed.any_processes_alive()

    (warning,) = (event["message"] for event in shown.events if event["event"] == "warning")
    assert warning.startswith("student-scratch (seed ")
    assert warning.endswith("; it is sent out again")
    expected = {key: comparable(run) for key, run in alone.stored(alone.plan(wanted)).items()}
    assert len(expected) == 2
    assert {key: comparable(run) for key, run in suite.stored(suite.plan(wanted)).items()} == expected
    for key in expected:
        *_, last, done = shown.of(key)
        assert (last["event"], last["share"], done["event"]) == ("progress", 1.0, "done")
        assert last["accuracy"] == suite.store.load(key).measurements["accuracy"]


def comparable(run):
    """What of a run does not tell when it was made."""
    return {name: (run.folder / name).read_bytes() for name in (WEIGHTS, MEASUREMENTS, HISTORY)}


def kill_when_it_works(node, node_folder):
    """Kills a node's Ray and its workers when one of them has trained an epoch of two."""
    wait_until(lambda: list(node_folder.glob(f"pytest-claims-*-{node.node_id[:12]}/checkpoints/*.checkpoint")))
    (raylet,) = node.all_processes["raylet"]
    workers = Path(f"/proc/{raylet.process.pid}/task/{raylet.process.pid}/children").read_text().split()
    for pid in (raylet.process.pid, *map(int, workers)):
        os.kill(pid, signal.SIGKILL)
    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
