"""Starts worker processes, listens to them, and shows how far they are."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiments.code_fingerprint import ROOT
from experiments.numerics import THREADS_PER_RUN
from experiments.planning import Plan
from experiments.suite import Suite

Event = dict[str, Any]

Wanted = Mapping[str, Sequence[int]]
"""The seeds of each model that is wanted."""


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
    """Makes those wanted runs that the store lacks.

    Raises:
        WorkersError: A worker could not start or ended early.
    """
    plan = suite.plan(wanted)
    stored = suite.stored(plan)
    missing = [planned for key, planned in plan.runs.items() if key not in stored]
    if not missing:
        return
    console.print(f"{len(missing)} of {len(plan.runs)} runs to make, {min(jobs, len(missing))} at a time")
    with display(plan, [planned.key for planned in missing], console) as shown:
        _listen(suite, wanted, min(jobs, len(missing)), shown)


def _listen(suite: Suite, wanted: Wanted, jobs: int, shown: Display) -> None:
    events: queue.Queue[Event] = queue.Queue()
    workers = [_Worker(suite, wanted, events) for _ in range(jobs)]
    try:
        while any(worker.is_alive() for worker in workers) or not events.empty():
            try:
                shown.show(events.get(timeout=0.2))
            except queue.Empty:
                continue
    finally:
        for worker in workers:
            worker.stop()
    problems = [worker.problem() for worker in workers if worker.problem()]
    if problems:
        raise WorkersError("\n".join(problems))


class _Worker:
    """A worker process and the threads that read its outputs."""

    def __init__(self, suite: Suite, wanted: Wanted, events: "queue.Queue[Event]") -> None:
        command = [
            sys.executable,
            "-m",
            "experiments.worker",
            suite.options.to_json(),
            json.dumps(dict(wanted)),
        ]
        threads = {name: str(THREADS_PER_RUN) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, "PYTHONPATH": path},
        )
        self._events = events
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=f, daemon=True) for f in (self._read_events, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        for line in self._process.stdout or ():
            try:
                event = json.loads(line)
            except ValueError:
                self._errors.append(line)
            else:
                self._events.put(event)

    def _read_errors(self) -> None:
        for line in self._process.stderr or ():
            self._errors = [*self._errors[-50:], line]

    def is_alive(self) -> bool:
        """Whether anything may still be heard of it."""
        return self._process.poll() is None or any(reader.is_alive() for reader in self._readers)

    def stop(self) -> None:
        """Ends it, if it has not ended."""
        if self._process.poll() is None:
            self._process.terminate()
        for reader in self._readers:
            reader.join()
        self._process.__exit__(None, None, None)  # closes the pipes and waits

    def problem(self) -> str:
        """Why it ended, unless it ended well."""
        code = self._process.returncode
        return f"a worker ended with status {code}:\n{''.join(self._errors)}" if code else ""


def display(plan: Plan, missing: Sequence[str], console: Console) -> AbstractContextManager[Display]:
    """A live bar on a terminal, a line for each finished run elsewhere."""
    return _live(plan, missing, console) if console.is_terminal else _lines(plan, missing, console)


class _Clock:
    """Tells the time left from the effort that is done: rough seconds, brought to this machine's speed."""

    def __init__(self, plan: Plan, missing: Sequence[str]) -> None:
        self._plan = plan
        self._shares = dict.fromkeys(missing, 0.0)
        self._started = time.monotonic()

    def update(self, event: Event) -> None:
        """Takes in an event."""
        key = event.get("key")
        if key in self._shares:
            self._shares[key] = {"start": 0.0, "epoch": event.get("share", 0.0)}.get(event["event"], 1.0)

    @property
    def share(self) -> float:
        """How much of the effort is done."""
        total = sum(self._plan.runs[key].effort for key in self._shares)
        return sum(share * self._plan.runs[key].effort for key, share in self._shares.items()) / total

    @property
    def runs_done(self) -> int:
        """Runs that are finished or have failed."""
        return sum(share == 1.0 for share in self._shares.values())

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
            self._console.print(f"{count} {event['event']} {what}; {self._clock.left()}", markup=False, highlight=False)


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
            self._tasks[key] = self._progress.add_task(event["title"], total=1.0, note="")
        elif kind == "epoch":
            note = f"{event['accuracy']:.1f} %"
            self._progress.update(self._tasks[key], completed=event["share"], note=note)
        else:
            self._progress.remove_task(self._tasks.pop(key))
            if kind == "failed":
                self._progress.console.print(f"failed {event['message']}", markup=False)
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
