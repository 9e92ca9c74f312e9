import os
import socket
import tempfile
from pathlib import Path

import pytest
from our_project import OURS

from pytest_claims.keys.code_fingerprint import ROOT, code_fingerprint, reachable_modules
from pytest_claims.recipes.project import ProjectPlace
from pytest_claims.workers.cluster import connection as ray_connection
from pytest_claims.workers.cluster.connection import connected
from pytest_claims.workers.cluster.resources import Cluster, ClusterError

MAKERS = ("experiments.builders.distill", "experiments.models.student")


def refused_with(address):
    with pytest.raises(ClusterError) as raised, connected(Cluster(address), OURS, MAKERS):
        pass
    return str(raised.value)


@pytest.mark.parametrize("address", ["nonsense", "host:port", ":6379", "6379"])
def test_an_address_is_host_and_port(address):
    assert refused_with(address) == f"--ray {address}: must be HOST:PORT, auto or local"


def test_rays_client_protocol_is_refused_with_what_to_do():
    assert "ray start --address=HOST:PORT" in refused_with("ray://head:10001")


def test_a_cluster_that_is_not_there_is_told_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert refused_with(address).startswith(f"--ray {address}: no cluster answers there (")


def test_what_ray_says_is_told_with_the_option(monkeypatch):
    def refuse(**options):
        raise ConnectionError("Version mismatch")

    monkeypatch.setattr(ray_connection.ray, "init", refuse)
    assert refused_with("auto") == "--ray auto: Version mismatch"


@pytest.fixture
def started(monkeypatch):
    """Takes the place of Ray's start: what it was given, and the environment and the code that it saw."""
    seen = {}

    def init(**options):
        code = Path(options["runtime_env"]["working_dir"])
        files = {path.relative_to(code) for path in code.rglob("*") if path.is_file()}
        here = MAKERS if (code / "experiments").exists() else ()
        fingerprint = code_fingerprint(here, [code])
        seen.update(options=options, environment=dict(os.environ), files=files, fingerprint=fingerprint)

    monkeypatch.setattr(ray_connection.ray, "init", init)
    monkeypatch.setattr(ray_connection.ray, "shutdown", lambda: seen.update(ended=True))
    return seen


def test_nodes_are_sent_the_engine_and_what_runs_and_profiles_need_of_the_project(started):
    with connected(Cluster("local"), OURS, MAKERS):
        pass
    assert started["fingerprint"] == code_fingerprint(MAKERS, OURS.paths)
    engine = {path for path in started["files"] if path.parts[0] == "pytest_claims"}
    assert engine == {
        path.relative_to(ROOT)
        for path in (ROOT / "pytest_claims").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    reached = reachable_modules([OURS.module, *MAKERS], OURS.paths).values()
    ours = {module.path.relative_to(ROOT) for module in reached} - engine
    assert started["files"] - engine == {*ours, Path("pyproject.toml")}
    assert Path("experiments/builders/prune.py") not in ours


def test_nodes_are_sent_what_lies_in_another_folder_of_the_project_and_makers_that_are_functions(started, tmp_path):
    for name, text in {
        "top/pyproject.toml": "[project]",
        "top/report.py": "import paper.recipes",
        "below/paper/__init__.py": "",
        "below/paper/recipes.py": "",
        "below/paper/makers.py": "from paper.helpers import halve\ndef made():\n    return halve\n",
        "below/paper/helpers.py": "halve = 2",
        "below/paper/unrelated.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    place = ProjectPlace("report", (tmp_path / "top", tmp_path / "below"))
    with connected(Cluster("local"), place, ["paper.makers:made"]):
        pass
    paper = {f"paper/{name}.py" for name in ("__init__", "recipes", "makers", "helpers")}
    assert {str(path) for path in started["files"] if path.parts[0] != "pytest_claims"} == {
        *("pyproject.toml", "report.py"),
        *paper,
    }


def test_tasks_compute_on_one_thread(started):
    with connected(Cluster("auto"), OURS, MAKERS):
        pass
    assert started["options"]["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def test_a_cluster_is_joined_and_not_configured(started):
    with connected(Cluster("auto", jobs=3), OURS, MAKERS):
        pass
    options = started["options"]
    assert options["address"] == "auto"
    assert options.keys() & {"num_cpus", "num_gpus", "_temp_dir"} == set()


@pytest.mark.parametrize(("jobs", "cpus"), [(3, 3), (None, 5)])
def test_a_local_ray_has_a_core_for_each_job(started, monkeypatch, jobs, cpus):
    monkeypatch.setattr(ray_connection, "default_jobs", lambda: 5)
    with connected(Cluster("local", jobs=jobs), OURS, MAKERS):
        pass
    assert (started["options"]["address"], started["options"]["num_cpus"]) == ("local", cpus)


def test_rays_sockets_fit_into_the_systems_limit(started, monkeypatch, tmp_path):
    long = tmp_path / ("long-" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with connected(Cluster("local"), OURS, MAKERS):
        folder = started["options"]["_temp_dir"]
    socket_path = f"{folder}/session_2026-11-24_08-18-38_675933_1093400/sockets/plasma_store.1"
    assert len(socket_path) <= 107
    assert list(long.iterdir()) == []


def test_nothing_is_left_of_a_session(started, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", raising=False)
    before = dict(os.environ)
    folders = []

    def interrupted():
        with connected(Cluster("local"), OURS, MAKERS):
            folders.append(Path(started["options"]["_temp_dir"]).parent)
            assert folders[0].is_dir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started["environment"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert started["ended"]
    assert dict(os.environ) == before
    assert not folders[0].exists()
