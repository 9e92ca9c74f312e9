"""What a node of a cluster does: makes one run of what it is sent, and gives back its files. No torch before it runs.

All that a session leaves on a node lies in one folder, a run store with its data beside it, until the session ends. So
a run whose worker was killed goes on from its checkpoint if it comes back to the node.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.util.queue import Queue

from pytest_claims.basics.atomic_file import replacing
from pytest_claims.datasets.dataset import DatasetError, stored_identity
from pytest_claims.datasets.preparation import PreparedData
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.keys.numerics import numerics_environment, without_kernel_variables
from pytest_claims.store import Failure, run_files
from pytest_claims.suite.planning import Plan, PlannedRun, run_key
from pytest_claims.suite.suite import Suite, SuiteOptions
from pytest_claims.workers.slots import fixed_variables

Bytes = NDArray[np.uint8]
"""A file's content, as an array: Ray lets all tasks of a node read the same copy."""

RunFiles = Mapping[str, bytes]
"""A finished run's files by name."""

_SECONDS_FOR_EVENTS = 10.0
"""Given to the last events to arrive; a run is no less finished without them."""


@dataclass(frozen=True)
class Job:
    """A run to make.

    Attributes:
        session: Names the session's folder on each node.
        planned: The run.
        lineage: The runs whose files are sent with it, in their order.
        options: The user's; paths in them mean nothing on a node.
        data: The run's data, if it needs any.
        environment: What the machine that planned the run adds to its key.
    """

    session: str
    planned: PlannedRun
    lineage: Mapping[str, PlannedRun]
    options: SuiteOptions
    data: PreparedData | None
    environment: Mapping[str, object]


@dataclass(frozen=True)
class Inputs:
    """What a run is made from: its data set's file, a file of pre-trained weights, the runs of its lineage."""

    data: Bytes | None
    weights: Bytes | None
    parents: tuple[RunFiles, ...]


@dataclass(frozen=True)
class Made:
    """The files of a finished run, and the node that made it."""

    node: str
    files: RunFiles


@dataclass(frozen=True)
class Refused:
    """Why a node would not make a run with the bytes that its key stands for."""

    message: str


Result = Made | Failure | Refused


def make_on_node(job: Job, events: Queue, data: Bytes | None, weights: Bytes | None, *parents: RunFiles) -> Result:
    """The task. Each file is an argument of its own, since Ray fetches only those before a task begins."""
    node_id = ray.get_runtime_context().get_node_id()
    node = f"{platform.node()} ({ray.util.get_node_ip_address()})"
    told: Any = events.actor
    sent: list[Any] = []

    def emit(event: str, **fields: object) -> None:
        # Not waited for, so that a slow driver is no slow training; one task's calls arrive in order.
        sent[:] = [told.put_nowait.remote({"event": event, **fields})]

    result = make_in_folder(job, session_folder(job.session, node_id), node, Inputs(data, weights, parents), emit)
    if sent:
        ray.wait(sent, timeout=_SECONDS_FOR_EVENTS)
    return result


def remove_from_node(session: str) -> None:
    """Removes what a session left on the node that runs this task."""
    shutil.rmtree(session_folder(session, ray.get_runtime_context().get_node_id()), ignore_errors=True)


def session_folder(session: str, node_id: str) -> Path:
    """Where a session's files are on a node; two nodes of one machine have one each."""
    return Path(tempfile.gettempdir()) / f"pytest-claims-{session}-{node_id[:12]}"


def make_in_folder(job: Job, folder: Path, node: str, inputs: Inputs, emit: Callable[..., None]) -> Result:
    """Makes a run in a folder of the node, which may hold other runs.

    Args:
        job: What to make.
        folder: A run store and data; made if missing.
        node: What people call the node.
        inputs: What the run is made from.
        emit: Takes an event's name and fields.

    Raises:
        StoreError: The folder cannot be written, or what was sent is damaged.
        DatasetError: The data that was sent is damaged.
    """
    if problem := refusal(job, node):
        return Refused(problem)
    _set_environment(job.options.device)
    # Only now: a node without the right torch has been told of by name, and the driver imports this module, too.
    from pytest_claims.workers.making import make_deterministic
    from pytest_claims.workers.worker import work

    make_deterministic()
    key = job.planned.key
    suite = _suite_on_node(job, folder, inputs)
    for parent, files in zip(job.lineage, inputs.parents, strict=True):
        suite.store.add(parent, files)
    work(suite, Plan({**job.lineage, key: job.planned}, {}), emit)
    if failure := suite.store.failure(key):
        return failure
    stored = suite.store.load(key)
    if stored is None:
        raise RuntimeError(f"{job.planned.run.title}: is neither finished nor failed")
    return Made(node, run_files(stored))


def _set_environment(device: str) -> None:
    """Takes away what would change the bytes of runs, before torch is imported and reads it."""
    for name in os.environ.keys() - without_kernel_variables(os.environ).keys():
        del os.environ[name]
    os.environ.update(fixed_variables(device))


def refusal(job: Job, node: str) -> str:
    """Why the node would make other bytes than the run's key stands for; empty if it would not."""
    here = numerics_environment(job.options.device)
    title, names = job.planned.run.title, sorted(here.keys() | job.environment.keys())
    different = [name for name in names if here.get(name) != job.environment.get(name)]
    if different:
        details = "; ".join(f"{name} is {here.get(name)!r}, not {job.environment.get(name)!r}" for name in different)
        return f"node {node}: would make {title} with other numbers than the machine that runs pytest: {details}"
    run = job.planned.run
    data = job.data.identity if job.data else None
    if run_key(run, job.planned.parents, data, here, _options_here(job.options).project.paths) != job.planned.key:
        return f"node {node}: has other code for {title} than the machine that runs pytest, or was sent other data"
    return ""


def _options_here(options: SuiteOptions) -> SuiteOptions:
    """The options on a node, where the project's code lies beside this package."""
    return replace(options, project=replace(options.project, paths=(ROOT,)))


def _suite_on_node(job: Job, folder: Path, inputs: Inputs) -> Suite:
    weights = folder / "weights" / "pretrained.safetensors" if inputs.weights is not None else None
    suite = Suite(replace(_options_here(job.options), store=folder, pretrained_weights=weights))
    if weights is not None and inputs.weights is not None:
        _put(weights, inputs.weights)
    if job.data and inputs.data is not None:
        here = replace(job.data, path=folder / "datasets" / f"{job.data.file_identity}.safetensors")
        _put(here.path, inputs.data)
        if (found := stored_identity(here.path)) != here.file_identity:
            raise DatasetError(f"{here.path}: holds the data set {found}, expected {here.file_identity}")
        suite.data = lambda role, seed: here
    return suite


def _put(path: Path, content: Bytes) -> None:
    """Writes a file unless it is there; it is whole or not there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content.data)
