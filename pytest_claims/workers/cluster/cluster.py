"""Makes the runs that the store lacks on a cluster: each is a task of Ray, and comes back into this store.

The order is the workers': the ready run with the longest remaining path first, and no more at once than there is room
for, so that Ray has no queue of its own. While a run is made elsewhere, its lock is held here: another session on this
store leaves it alone, and what another session makes is waited for.
"""

import time
import uuid
from collections.abc import Container, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from pytest_claims.keys.numerics import numerics_environment
from pytest_claims.store import DamagedRunError, Failure, run_files
from pytest_claims.store.run_lock import LockHeldError, RunLock
from pytest_claims.suite.planning import Plan, PlannedRun, code_modules, lineage
from pytest_claims.suite.suite import Suite
from pytest_claims.workers.cluster.connection import connected
from pytest_claims.workers.cluster.resources import Cluster, ClusterError, Demand, demand
from pytest_claims.workers.cluster.task import Job, Made, Refused, Result, make_on_node, remove_from_node
from pytest_claims.workers.display import Event
from pytest_claims.workers.driver import MOST_ATTEMPTS, Driver, Loss, Wanted, Work, drive, read_work
from pytest_claims.workers.patience import Patience

_SECONDS_BETWEEN_LISTENING = 0.2

_SECONDS_TO_END = 30.0
"""Given to tasks that are cancelled, and then to nodes that are cleaned, which may have to start a process for it."""


def build_on_cluster(suite: Suite, wanted: Wanted, cluster: Cluster, console: Console) -> None:
    """Makes those wanted runs that the store lacks, unless they failed before.

    A run whose worker or node is lost is sent out again; one that was lost `MOST_ATTEMPTS` times counts as failed.

    Raises:
        StoreError: The store cannot be written to, or others that make what is left show no progress.
        ClusterError: The cluster cannot be reached, has no room for any run, or would make other bytes than here.
    """
    needs = demand(suite.options.device, cluster)
    work = read_work(suite, wanted, console)
    if not work.missing:
        return
    with ExitStack() as stack:
        with console.status("connecting to Ray"):
            stack.enter_context(connected(cluster, suite.options.project, _modules(work.plan)))
        room = _room(cluster, needs)
        console.print(f"{work} on Ray, up to {min(room, len(work.missing))} at a time")
        try:
            drive(work, _Tasks(suite, work, cluster), console)
        except RayError as error:
            raise ClusterError(f"--ray {cluster.address}: {error}") from error


def _modules(plan: Plan) -> set[str]:
    """The modules that make a plan's runs."""
    return {module for planned in plan.runs.values() for module in code_modules(planned.run.recipe)}


def _room(cluster: Cluster, needs: Demand) -> int:
    """How many runs the cluster has room for.

    Raises:
        ClusterError: It has none.
    """
    slots = needs.slots(node["Resources"] for node in ray.nodes() if node["Alive"])
    if not slots:
        raise ClusterError(f"--ray {cluster.address}: none of the cluster's nodes has {needs}")
    return slots if cluster.jobs is None else min(slots, cluster.jobs)


@dataclass(frozen=True)
class _Submitted:
    """A run that is made on the cluster, and the local lock that says so."""

    planned: PlannedRun
    lock: RunLock


class _Tasks:
    """The tasks of one session: a `Backend`."""

    def __init__(self, suite: Suite, work: Work, cluster: Cluster) -> None:
        self._suite, self._plan, self._open_runs, self._cluster = suite, work.plan, work.open_runs, cluster
        self._needs = demand(suite.options.device, cluster)
        self._session = uuid.uuid4().hex
        self._environment = numerics_environment(suite.options.device)
        # Here, so that no node takes what others have told with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._events = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._task = ray.remote(make_on_node).options(
            num_cpus=self._needs.cpus, num_gpus=self._needs.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        self._shipped = _Shipped(suite)
        self._tasks: dict[Any, _Submitted] = {}
        self._ready: Sequence[PlannedRun] = ()
        self._patience = Patience(suite.store)

    def start(self) -> bool:
        """Sends runs out; whether any is neither finished nor failed, nor blocked by one that has."""
        waiting = self._open_runs.waiting()
        self._shipped.keep({parent for planned in waiting for parent in lineage(self._plan, planned)})
        self._ready = self._open_runs.ready(waiting)
        self._submit(self._ready)
        return bool(waiting)

    def _submit(self, ready: Sequence[PlannedRun]) -> None:
        out = {submitted.planned.key for submitted in self._tasks.values()}
        room = _room(self._cluster, self._needs)
        for planned in ready:
            if len(self._tasks) >= room:
                return
            if planned.key not in out:
                self._submit_if_free(planned)

    def _submit_if_free(self, planned: PlannedRun) -> None:
        """Sends a run out unless another process makes it, or has made it meanwhile."""
        store, key = self._suite.store, planned.key
        lock = store.lock(key)
        try:
            lock.acquire(blocking=False)
        except LockHeldError:
            return
        if store.load(key) or store.failure(key):
            lock.release()
            return
        data = self._suite.data_of(planned.run)
        needed = lineage(self._plan, planned)
        job = Job(self._session, planned, needed, self._suite.options, data, self._environment)
        self._tasks[self._task.remote(job, self._events, *self._shipped.inputs(planned, needed))] = _Submitted(
            planned, lock
        )

    def listen(self, driver: Driver) -> None:
        """Shows what nodes tell, and takes in what they have made."""
        finished = self._finished(driver)
        if count := self._events.qsize():
            for event in self._events.get_nowait_batch(count):
                self._show_remote(event, driver)
        for reference in finished:
            self._finish(reference, driver)

    def _finished(self, driver: Driver) -> list[Any]:
        """Waits a moment for tasks to end; where all that is left is made by others, tells who they are."""
        if self._tasks:
            finished, _ = ray.wait(list(self._tasks), timeout=_SECONDS_BETWEEN_LISTENING)
            return finished
        if self._ready:
            driver.show({"event": "waiting", "holder": self._patience.wait_for(self._ready)})
        time.sleep(_SECONDS_BETWEEN_LISTENING)
        return []

    def _show_remote(self, event: Event, driver: Driver) -> None:
        """A run's end is told here, when it is in the store; what a task that was taken for lost tells is left out."""
        running = {submitted.planned.key for submitted in self._tasks.values()}
        if event["event"] == "warning" or (event["event"] in ("start", "progress") and event["key"] in running):
            driver.show(event)

    def _finish(self, reference: Any, driver: Driver) -> None:
        submitted = self._tasks.pop(reference)
        planned = submitted.planned
        try:
            self._take(planned, ray.get(reference), driver)
        except (RayTaskError, RuntimeEnvSetupError) as error:  # what is wrong with a node is no run's fault
            raise ClusterError(f"{planned.run.title}: a node of the cluster failed: {error}") from error
        except RayError as error:
            driver.lose(_loss(planned, _in_short(error)))
        finally:
            submitted.lock.release()

    def _take(self, planned: PlannedRun, result: Result, driver: Driver) -> None:
        match result:
            case Made(node=node, files=files):
                try:
                    self._suite.store.add(planned.key, files)
                except DamagedRunError as error:
                    driver.lose(_loss(planned, f"node {node} sent no whole run: {error}"))
                else:
                    driver.show({"event": "done", "key": planned.key})
            case Failure():
                driver.fail(planned.key, result)
            case Refused(message=message):
                raise ClusterError(f"--ray {self._cluster.address}: {message}")

    def end(self) -> None:
        """Cancels what is still being made, and leaves nothing on the nodes that are left."""
        for reference in self._tasks:
            ray.cancel(reference, force=True)
        if self._tasks:
            ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=_SECONDS_TO_END)
        for submitted in self._tasks.values():
            submitted.lock.release()
        remove = ray.remote(remove_from_node)
        nodes = [NodeAffinitySchedulingStrategy(n["NodeID"], soft=False) for n in ray.nodes() if n["Alive"]]
        removing = [remove.options(num_cpus=0, scheduling_strategy=node).remote(self._session) for node in nodes]
        ray.wait(removing, num_returns=len(removing), timeout=_SECONDS_TO_END)


def _loss(planned: PlannedRun, why: str) -> Loss:
    verdict = f"was lost {MOST_ATTEMPTS} times, such as by workers that were killed for want of memory"
    return Loss(planned.key, why, f"{planned.run.title}: lost ({why}); it is sent out again", verdict)


def _in_short(error: RayError) -> str:
    """The first sentence; Ray's advice on where to read more fills lines."""
    return f"{type(error).__name__}: {error}".splitlines()[0].partition(". ")[0]


class _Shipped:
    """What runs are made from, each file put into Ray's object store once."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._parents: dict[str, Any] = {}
        self._files: dict[Path, Any] = {}

    def inputs(self, planned: PlannedRun, lineage: Iterable[str]) -> list[Any]:
        """The run's data, pre-trained weights and parents, as `make_on_node` takes them."""
        recipe = planned.run.recipe
        prepared = self._suite.data_of(planned.run)
        data = self._file(prepared.path) if prepared else None
        weights = self._suite.options.pretrained_weights if "sha256" in dict(recipe.settings) else None
        return [data, self._file(weights) if weights else None, *map(self._parent, lineage)]

    def keep(self, parents: Container[str]) -> None:
        """Frees the memory of all parents but these."""
        self._parents = {key: reference for key, reference in self._parents.items() if key in parents}

    def _file(self, path: Path) -> Any:
        if path not in self._files:
            self._files[path] = ray.put(np.fromfile(path, np.uint8))
        return self._files[path]

    def _parent(self, key: str) -> Any:
        if key not in self._parents:
            stored = self._suite.store.load(key)
            if stored is None:
                raise ClusterError(f"run {key[:12]}: has left the store")
            self._parents[key] = ray.put(run_files(stored))
        return self._parents[key]
