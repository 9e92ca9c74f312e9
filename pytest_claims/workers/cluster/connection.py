"""A session's connection to Ray: joins a cluster or starts Ray here, and ships the project's code to its nodes."""

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from pytest_claims.basics.limits import LOCAL, THREADS_PER_RUN
from pytest_claims.keys.code_fingerprint import ENGINE, ROOT, reachable_modules
from pytest_claims.recipes.profile_tables import SETTINGS
from pytest_claims.recipes.project import ProjectPlace
from pytest_claims.workers.cluster.resources import Cluster, ClusterError
from pytest_claims.workers.slots import default_jobs, fixed_variables

_LONGEST_TEMPORARY_FOLDER = 40
"""Characters: Ray puts sockets some 65 deeper, and the system allows 107 in a socket's path."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray warns of a default that it means to change, which makes no difference to runs.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_SECONDS_TO_ANSWER = 10.0
"""Given to a cluster: Ray itself would try for many minutes to reach one that is not there."""

_CANNOT_CONNECT = (ConnectionError, OSError, RuntimeError, ValueError, ray.exceptions.RayError)


@contextmanager
def connected(cluster: Cluster, place: ProjectPlace, modules: Iterable[str]) -> Iterator[None]:
    """Ray is connected inside the block; on leaving it nothing that was started for it is left.

    Args:
        cluster: What a user chose.
        place: Where the project's code is.
        modules: The modules that make runs.

    Raises:
        ClusterError: Ray cannot be reached or started.
    """
    _check(cluster.address)
    with _environment(_QUIET), _temporary_folder() as folder:
        # A task's process imports numpy before the task could say on how many threads that should compute.
        code = {"working_dir": str(_copy_of_code(folder / "code", place, modules)), "env_vars": fixed_variables("cpu")}
        where = _started(cluster, folder / "ray") if cluster.address == LOCAL else {"address": cluster.address}
        try:
            ray.init(**where, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
        except _CANNOT_CONNECT as error:
            raise ClusterError(f"--ray {cluster.address}: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _check(address: str) -> None:
    """Refuses an address that is of no use."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"--ray {address}: Ray's client protocol is not supported; make this machine a node of the cluster "
            "(ray start --address=HOST:PORT --num-cpus=0) and give HOST:PORT"
        )
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(f"--ray {address}: must be HOST:PORT, auto or {LOCAL}")
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"--ray {address}: no cluster answers there ({error})") from error


def _started(cluster: Cluster, folder: Path) -> dict[str, Any]:
    cpus = (cluster.jobs or default_jobs()) * THREADS_PER_RUN
    return {"address": LOCAL, "num_cpus": cpus, "include_dashboard": False, "_temp_dir": str(folder)}


def _copy_of_code(folder: Path, place: ProjectPlace, modules: Iterable[str]) -> Path:
    """This package, and of the project what its runs and profiles need: Ray ships the folder whole."""
    shutil.copytree(ROOT / ENGINE, folder / ENGINE, ignore=shutil.ignore_patterns("__pycache__"))
    needed = [place.module, *(module.partition(":")[0] for module in modules)]
    for name, module in reachable_modules(needed, place.paths).items():
        if name.partition(".")[0] != ENGINE:
            stem = folder.joinpath(*name.split("."))
            target = stem / module.path.name if module.path.name == "__init__.py" else stem.with_name(module.path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module.path, target)
    if (settings := place.paths[0] / SETTINGS).is_file():
        shutil.copyfile(settings, folder / SETTINGS)
    return folder


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder with a path that is short enough for Ray's sockets."""
    usual = tempfile.gettempdir()
    parent = usual if len(usual) <= _LONGEST_TEMPORARY_FOLDER else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
    try:
        yield folder
    finally:
        # Processes of a Ray that is ending may still write there.
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of the environment inside the block, where Ray looks for them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
