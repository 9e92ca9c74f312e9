"""Makes the runs that the store lacks on this machine: worker processes, and others in place of those killed."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from itertools import count

from rich.console import Console

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.keys.numerics import without_kernel_variables
from pytest_claims.suite.suite import Suite
from pytest_claims.workers.display import Event
from pytest_claims.workers.driver import MOST_ATTEMPTS, Driver, Loss, Wanted, WorkersError, drive, read_work
from pytest_claims.workers.slots import slot_environment

TOLD_TO_END = 128 + signal.SIGTERM
"""Exit status of a worker that had a moment to leave nothing half done."""

_LAST_LINES = 50
"""Of what a worker wrote before it ended."""

_SECONDS_TO_END = 10.0
"""Given to a worker to leave nothing half done."""

_SECONDS_BETWEEN_LISTENING = 0.2


def build_missing(suite: Suite, wanted: Wanted, jobs: int, console: Console) -> None:
    """Makes those wanted runs that the store lacks, unless they failed before.

    A worker that is killed, as by a system that is out of memory, costs the run that it was making another attempt,
    which goes on from the run's checkpoint. A run that has cost `MOST_ATTEMPTS` workers counts as failed.

    Raises:
        StoreError: The store cannot be written to.
        WorkersError: The workers ended before all was made.
    """
    work = read_work(suite, wanted, console)
    if not work.missing:
        return
    jobs = min(jobs, len(work.missing))
    console.print(f"{work}, {jobs} at a time")
    drive(work, _Workers(suite, wanted, jobs), console)


class _Workers:
    """The worker processes of one session, which choose their runs themselves: a `Backend`."""

    def __init__(self, suite: Suite, wanted: Wanted, jobs: int) -> None:
        self._suite, self._wanted = suite, wanted
        self._events: queue.Queue[Event] = queue.Queue()
        self._workers: list[_Worker] = []
        self._to_start = jobs

    def start(self) -> bool:
        """Starts a worker for each job, or in place of each that was killed; whether any is left to listen to."""
        while self._to_start:
            taken = {worker.slot for worker in self._workers}
            slot = next(number for number in count() if number not in taken)
            self._workers.append(_Worker(self._suite, self._wanted, self._events, slot))
            self._to_start -= 1
        return bool(self._workers) or not self._events.empty()

    def listen(self, driver: Driver) -> None:
        """Shows what workers tell, and takes leave of those that have ended."""
        with suppress(queue.Empty):
            driver.show(self._events.get(timeout=_SECONDS_BETWEEN_LISTENING))
        for worker in [worker for worker in self._workers if not worker.is_alive()]:
            self._workers.remove(worker)
            worker.stop()
            self._take_leave(worker, driver)

    def _take_leave(self, worker: "_Worker", driver: Driver) -> None:
        """One that was killed is replaced, unless its run or the start has cost too many."""
        if not (problem := worker.problem()):
            return
        if worker.was_killed:
            self._to_start += driver.lose(_loss(worker, problem))
        else:
            driver.stumble(problem)

    def end(self) -> None:
        """Ends all workers; each has had a moment to leave nothing half done."""
        for worker in self._workers:
            worker.tell_to_end()
        for worker in self._workers:
            worker.stop()


def _loss(worker: "_Worker", problem: str) -> Loss:
    how, *errors = problem.splitlines()
    warning = "\n".join([f"{how}; another one takes its place", *errors])
    verdict = f"{MOST_ATTEMPTS} workers were killed while making it, such as for want of memory"
    return Loss(worker.making, problem, warning, verdict, made_others=worker.has_ended_a_run)


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
