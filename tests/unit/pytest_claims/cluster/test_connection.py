import os
import socket
import tempfile
from pathlib import Path

import pytest

from pytest_claims.cluster import connection as ray_connection
from pytest_claims.cluster.connection import connected
from pytest_claims.cluster.resources import Cluster, ClusterError
from pytest_claims.keys.code_fingerprint import ROOT, code_fingerprint

MODULES = ("pytest_claims.workers.worker", "experiments.builders.distill", "experiments.models.student")


def refused_with(address):
    with pytest.raises(ClusterError) as raised, connected(Cluster(address)):
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
        fingerprint = code_fingerprint(MODULES, code)
        seen.update(options=options, environment=dict(os.environ), files=files, fingerprint=fingerprint)

    monkeypatch.setattr(ray_connection.ray, "init", init)
    monkeypatch.setattr(ray_connection.ray, "shutdown", lambda: seen.update(ended=True))
    return seen


def test_nodes_are_sent_the_packages_and_nothing_else(started):
    with connected(Cluster("local")):
        pass
    assert started["fingerprint"] == code_fingerprint(MODULES, ROOT)
    assert {path.parts[0] for path in started["files"]} == {"compression", "experiments"}
    assert {path.suffix for path in started["files"]} & {".pyc", ".safetensors"} == set()
    assert Path("experiments/report/templates").name in {path.parent.name for path in started["files"]}


def test_tasks_compute_on_one_thread(started):
    with connected(Cluster("auto")):
        pass
    assert started["options"]["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def test_a_cluster_is_joined_and_not_configured(started):
    with connected(Cluster("auto", jobs=3)):
        pass
    options = started["options"]
    assert options["address"] == "auto"
    assert options.keys() & {"num_cpus", "num_gpus", "_temp_dir"} == set()


@pytest.mark.parametrize(("jobs", "cpus"), [(3, 3), (None, 5)])
def test_a_local_ray_has_a_core_for_each_job(started, monkeypatch, jobs, cpus):
    monkeypatch.setattr(ray_connection, "default_jobs", lambda: 5)
    with connected(Cluster("local", jobs=jobs)):
        pass
    assert (started["options"]["address"], started["options"]["num_cpus"]) == ("local", cpus)


def test_rays_sockets_fit_into_the_systems_limit(started, monkeypatch, tmp_path):
    long = tmp_path / ("long-" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with connected(Cluster("local")):
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
        with connected(Cluster("local")):
            folders.append(Path(started["options"]["_temp_dir"]).parent)
            assert folders[0].is_dir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert started["environment"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert started["ended"]
    assert dict(os.environ) == before
    assert not folders[0].exists()
