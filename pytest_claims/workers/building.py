"""Makes the runs that the store lacks: starts worker processes, listens to them, and replaces those that are killed."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count

from rich.console import Console

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.keys.numerics import without_kernel_variables
from pytest_claims.plan.open_runs import OpenRuns
from pytest_claims.plan.planning import Plan
from pytest_claims.store import Failure
from pytest_claims.suite.suite import Suite
from pytest_claims.workers.display import Display, Event, display
from pytest_claims.workers.slots import slot_environment

Wanted = Mapping[str, Sequence[int]]
"""The seeds of each model that is wanted."""

MOST_ATTEMPTS = 3
"""At a run whose workers are killed, such as by a system that is out of memory."""

TOLD_TO_END = 128 + signal.SIGTERM
"""Exit status of a worker that had a moment to leave nothing half done."""

_LAST_LINES = 50
"""Of what a worker wrote before it ended."""

_SECONDS_TO_END = 10.0
"""Given to a worker to leave nothing half done."""

_SECONDS_BETWEEN_LOOKS = 2.0
"""At what other sessions on the same store have made."""


class WorkersError(RuntimeError):
    """The workers ended without making what could be made; the message has the end of what they wrote."""


def build_missing(suite: Suite, wanted: Wanted, jobs: int, console: Console) -> None:
    """Makes those wanted runs that the store lacks, unless they failed before.

    A worker that is killed, as by a system that is out of memory, costs the run that it was making another attempt,
    which goes on from the run's checkpoint. A run that has cost `MOST_ATTEMPTS` workers counts as failed.

    Raises:
        StoreError: The store cannot be written to.
        WorkersError: The workers ended before all was made.
    """
    plan, open_runs, missing = read_plan(suite, wanted, console)
    if not missing:
        return
    suite.store.check_writable()
    jobs = min(jobs, len(missing))
    console.print(f"{len(missing)} of {len(plan.runs)} runs to make, {jobs} at a time")
    try:
        with display(plan, missing, console) as shown:
            problems = _Builders(suite, wanted, plan, missing, shown).work(jobs)
    except KeyboardInterrupt:
        console.print("interrupted: what was made is kept, and the next session goes on from there")
        raise
    if problems and open_runs.waiting():
        raise WorkersError("\n".join(problems))
    for problem in problems:
        console.out(f"warning: {problem}\nother workers have made what it left", highlight=False)


def read_plan(suite: Suite, wanted: Wanted, console: Console) -> tuple[Plan, OpenRuns, list[str]]:
    """The plan of the wanted runs, which of them are open, and the keys of those to make."""
    with console.status("reading the data and the run store"):
        plan = suite.plan(wanted)
        open_runs = OpenRuns(suite.store, plan)
        return plan, open_runs, [planned.key for planned in open_runs.waiting()]


class _Builders:
    """The workers of one session."""

    def __init__(self, suite: Suite, wanted: Wanted, plan: Plan, missing: Sequence[str], shown: Display) -> None:
        self._suite, self._wanted, self._plan, self._shown = suite, wanted, plan, shown
        self._events: queue.Queue[Event] = queue.Queue()
        self._workers: list[_Worker] = []
        self._killed: Counter[str | None] = Counter()
        self._unseen = set(missing)
        self._looked = time.monotonic()

    def work(self, jobs: int) -> list[str]:
        """Shows what workers tell until all have ended, which they do by themselves; returns why any ended early."""
        problems: dict[str, None] = {}  # workers that meet the same full disk need not all say so
        try:
            for _ in range(jobs):
                self._start()
            while self._workers or not self._events.empty():
                self._listen()
                for worker in [worker for worker in self._workers if not worker.is_alive()]:
                    self._workers.remove(worker)
                    worker.stop()
                    problems |= dict.fromkeys(self._after(worker))
            self._show_what_others_made()
        finally:
            for worker in self._workers:
                worker.tell_to_end()
            for worker in self._workers:
                worker.stop()
        return list(problems)

    def _start(self) -> None:
        taken = {worker.slot for worker in self._workers}
        slot = next(number for number in count() if number not in taken)
        self._workers.append(_Worker(self._suite, self._wanted, self._events, slot))

    def _listen(self) -> None:
        with suppress(queue.Empty):
            self._show(self._events.get(timeout=0.2))
        self._look_at_other_sessions()
        self._shown.tick()

    def _show(self, event: Event) -> None:
        """Leaves out what a worker tells late: its run was seen in the store."""
        key = event.get("key")
        if key is not None and key not in self._unseen:
            return
        if event["event"] in ("done", "failed"):
            self._unseen.discard(event["key"])
        self._shown.show(event)

    def _look_at_other_sessions(self) -> None:
        if time.monotonic() - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._show_what_others_made()

    def _show_what_others_made(self) -> None:
        self._looked = time.monotonic()
        for key in tuple(self._unseen):
            if self._suite.store.holds(key):
                self._show({"event": "done", "key": key})
            elif failure := self._suite.store.failure(key):
                self._show({"event": "failed", "key": key, "message": failure.message})

    def _after(self, worker: "_Worker") -> list[str]:
        """Why a worker ended early; one that was killed is replaced, unless its run or the start has cost too many."""
        if not (problem := worker.problem()):
            return []
        if not worker.was_killed:
            return [problem]
        key = worker.making
        if worker.has_ended_a_run:
            self._killed.pop(None, None)
        self._killed[key] += 1
        if self._killed[key] >= MOST_ATTEMPTS:
            if key is None:
                return [problem]
            self._give_up(key, problem)
        else:
            how, *errors = problem.splitlines()
            warning = "\n".join([f"{how}; another one takes its place", *errors])
            self._show({"event": "warning", "message": warning})
        self._start()
        return []

    def _give_up(self, key: str, problem: str) -> None:
        title = self._plan.runs[key].run.title
        message = f"{title}: {MOST_ATTEMPTS} workers were killed while making it, such as for want of memory"
        self._suite.store.record_failure(key, Failure(title, message, problem))
        self._show({"event": "failed", "key": key, "message": message})


class _Worker:
    """A worker process and the threads that read its outputs."""

    def __init__(self, suite: Suite, wanted: Wanted, events: "queue.Queue[Event]", slot: int) -> None:
        # -P: what lies where pytest was started should not hide the packages.
        module = [sys.executable, "-P", "-m", "pytest_claims.workers.worker"]
        variables = slot_environment(suite.options.device, slot)
        paths = dict.fromkeys((ROOT, *suite.options.project.paths))
        path = os.pathsep.join(filter(None, [*map(str, paths), os.environ.get("PYTHONPATH")]))
        try:
            self._process = subprocess.Popen(
                [*module, suite.options.to_json(), json.dumps(dict(wanted))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env={**without_kernel_variables(os.environ), **variables, "PYTHONPATH": path},
            )
        except OSError as error:
            raise WorkersError(f"a worker cannot be started ({error.strerror}); fewer --jobs need less") from error
        self.slot = slot
        self.making: str | None = None
        self.has_ended_a_run = False
        self._events = events
        self._error = ""
        self._errors: deque[str] = deque(maxlen=_LAST_LINES)
        self._readers = [threading.Thread(target=f, daemon=True) for f in (self._read_events, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        for line in self._process.stdout or ():
            try:
                event = json.loads(line)
                kind = event["event"]
            except (ValueError, TypeError, KeyError):  # printed while the worker was starting, or cut short by its end
                self._errors.append(line)
                continue
            if kind in ("start", "done", "failed"):
                self.making = event["key"] if kind == "start" else None
                self.has_ended_a_run = self.has_ended_a_run or kind != "start"
            if kind == "error":
                self._error = event["message"]
            else:
                self._events.put(event)

    def _read_errors(self) -> None:
        self._errors.extend(self._process.stderr or ())

    def is_alive(self) -> bool:
        """Whether anything may still be heard of it."""
        return self._process.poll() is None or any(reader.is_alive() for reader in self._readers)

    def tell_to_end(self) -> None:
        """Lets it end without waiting for it, if it has not ended."""
        self._process.terminate()

    def stop(self) -> None:
        """Ends it, if it has not ended."""
        with self._process:  # closes its pipes
            self.tell_to_end()
            try:
                self._process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
            for reader in self._readers:
                reader.join()

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it; SIGTERM, too, which some systems send first where memory is short."""
        return self._process.returncode < 0 or self._process.returncode == TOLD_TO_END

    def problem(self) -> str:
        """Why it ended, unless it ended well."""
        code = self._process.returncode
        if not code or self._error:
            return self._error
        number = signal.SIGTERM if code == TOLD_TO_END else -code
        how = f"was ended by {signal.Signals(number).name}" if number > 0 else f"ended with status {code}"
        return "\n".join([f"a worker {how}", *map(str.rstrip, self._errors)])
