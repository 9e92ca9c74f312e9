"""Starts worker processes, listens to them, and shows how far they are."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiments.code_fingerprint import ROOT
from experiments.numerics import THREADS_PER_RUN
from experiments.open_runs import OpenRuns
from experiments.planning import Plan
from experiments.suite import Suite

Event = dict[str, Any]

Wanted = Mapping[str, Sequence[int]]
"""The seeds of each model that is wanted."""

_LAST_LINES = 50
"""Of what a worker wrote before it ended."""

_SECONDS_TO_END = 10.0
"""Given to a worker to leave nothing half done."""


class WorkersError(RuntimeError):
    """The workers ended without making what could be made; the message has the end of what they wrote."""


class Display(Protocol):
    """Something that is told of every event."""

    def show(self, event: Event) -> None:
        """Shows an event of a worker."""


def default_jobs() -> int:
    """As many runs side by side as the machine has cores for."""
    return max(1, (os.cpu_count() or 1) // THREADS_PER_RUN)


def build_missing(suite: Suite, wanted: Wanted, jobs: int, console: Console) -> None:
    """Makes those wanted runs that the store lacks, unless they failed before.

    A worker that ends early, such as one that the system kills for want of memory, costs the run that it was making a
    second attempt, by another worker.

    Raises:
        StoreError: The store cannot be written to.
        WorkersError: No worker was left before all was made.
    """
    with console.status("reading the data and the run store"):
        plan = suite.plan(wanted)
        missing = [planned.key for planned in OpenRuns(suite.store, plan).waiting()]
    if not missing:
        return
    suite.store.check_writable()
    jobs = min(jobs, len(missing))
    console.print(f"{len(missing)} of {len(plan.runs)} runs to make, {jobs} at a time")
    with display(plan, missing, console) as shown:
        problems = _listen(suite, wanted, jobs, shown)
    if len(problems) == jobs:
        raise WorkersError("\n".join(problems))
    for problem in problems:
        console.out(f"warning: {problem}\nother workers have made what it left", highlight=False)


def _listen(suite: Suite, wanted: Wanted, jobs: int, shown: Display) -> list[str]:
    """Shows what workers tell until all have ended, which they do by themselves; returns why any ended early."""
    events: queue.Queue[Event] = queue.Queue()
    workers: list[_Worker] = []
    try:
        workers.extend(_Worker(suite, wanted, events) for _ in range(jobs))
        while any(worker.is_alive() for worker in workers) or not events.empty():
            try:
                shown.show(events.get(timeout=0.2))
            except queue.Empty:
                continue
    finally:
        for worker in workers:
            worker.stop()
    return [worker.problem() for worker in workers if worker.problem()]


class _Worker:
    """A worker process and the threads that read its outputs."""

    def __init__(self, suite: Suite, wanted: Wanted, events: "queue.Queue[Event]") -> None:
        # -P: what lies where pytest was started should not hide the packages.
        module = [sys.executable, "-P", "-m", "experiments.worker"]
        threads = {name: str(THREADS_PER_RUN) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [*module, suite.options.to_json(), json.dumps(dict(wanted))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **threads, "PYTHONPATH": path},
        )
        self._events = events
        self._errors: deque[str] = deque(maxlen=_LAST_LINES)
        self._readers = [threading.Thread(target=f, daemon=True) for f in (self._read_events, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        for line in self._process.stdout or ():
            try:
                self._events.put(json.loads(line))
            except ValueError:  # printed while the worker was starting
                self._errors.append(line)

    def _read_errors(self) -> None:
        self._errors.extend(self._process.stderr or ())

    def is_alive(self) -> bool:
        """Whether anything may still be heard of it."""
        return self._process.poll() is None or any(reader.is_alive() for reader in self._readers)

    def stop(self) -> None:
        """Ends it, if it has not ended."""
        with self._process:  # closes its pipes
            self._process.terminate()
            try:
                self._process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
            for reader in self._readers:
                reader.join()

    def problem(self) -> str:
        """Why it ended, unless it ended well."""
        code = self._process.returncode
        if not code:
            return ""
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return "\n".join([f"a worker {how}", *map(str.rstrip, self._errors)])


def display(plan: Plan, missing: Sequence[str], console: Console) -> AbstractContextManager[Display]:
    """A live bar on a terminal, a line for each finished run elsewhere."""
    return _live(plan, missing, console) if console.is_interactive else _lines(plan, missing, console)


class _Clock:
    """Tells the time left from the effort that is done: rough seconds, brought to this machine's speed."""

    def __init__(self, plan: Plan, missing: Sequence[str]) -> None:
        self._plan = plan
        self._shares = dict.fromkeys(missing, 0.0)
        self._started = time.monotonic()
        self.runs_done = 0

    def update(self, event: Event) -> None:
        """Takes in an event."""
        key = event["key"]
        if event["event"] in ("done", "failed"):
            self.runs_done += 1
            self._shares[key] = 1.0
        if event["event"] == "epoch":
            self._shares[key] = event["share"]
        if event["event"] == "failed":
            self._leave_out_descendants(key)

    def _leave_out_descendants(self, failed: str) -> None:
        blocked = {failed}
        for key, planned in self._plan.runs.items():
            if blocked.intersection(planned.parents.values()):
                blocked.add(key)
                self._shares.pop(key, None)

    @property
    def share(self) -> float:
        """How much of the effort is done."""
        total = sum(self._plan.runs[key].effort for key in self._shares)
        return sum(share * self._plan.runs[key].effort for key, share in self._shares.items()) / total

    def left(self) -> str:
        """The time left, for people."""
        share = self.share
        if share < 0.005:
            return "estimating the time left"
        seconds = (time.monotonic() - self._started) * (1 - share) / share
        return f"about {seconds:.0f} s left" if seconds < 100 else f"about {seconds / 60:.0f} min left"


class _Lines:
    def __init__(self, plan: Plan, missing: Sequence[str], console: Console) -> None:
        self._clock, self._total, self._console = _Clock(plan, missing), len(missing), console
        self._titles: dict[str, str] = {}

    def show(self, event: Event) -> None:
        self._clock.update(event)
        if event["event"] == "start":
            self._titles[event["key"]] = event["title"]
        elif event["event"] in ("done", "failed"):
            what = event.get("message") or self._titles[event["key"]]
            count = f"[{self._clock.runs_done}/{self._total}]"
            self._console.out(f"{count} {event['event']} {what}; {self._clock.left()}", highlight=False)


@contextmanager
def _lines(plan: Plan, missing: Sequence[str], console: Console) -> Iterator[Display]:
    yield _Lines(plan, missing, console)


class _Live:
    def __init__(self, clock: _Clock, progress: Progress, total: int) -> None:
        self._clock, self._progress, self._total = clock, progress, total
        self._all = progress.add_task("all runs", total=1.0, note="")
        self._tasks: dict[str, TaskID] = {}

    def show(self, event: Event) -> None:
        self._clock.update(event)
        kind, key = event["event"], event["key"]
        if kind == "start":
            if key not in self._tasks:  # a killed worker may have started it before
                self._tasks[key] = self._progress.add_task(event["title"], total=1.0, note="")
        elif kind == "epoch":
            note = f"{event['accuracy']:.1f} %"
            self._progress.update(self._tasks[key], completed=event["share"], note=note)
        else:
            self._progress.remove_task(self._tasks.pop(key))
            if kind == "failed":
                self._progress.console.out(f"failed {event['message']}", highlight=False)
        note = f"{self._clock.runs_done}/{self._total} runs, {self._clock.left()}"
        self._progress.update(self._all, completed=self._clock.share, note=note)


@contextmanager
def _live(plan: Plan, missing: Sequence[str], console: Console) -> Iterator[Display]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Live(_Clock(plan, missing), progress, len(missing))
