"""What a session does while its missing runs are made, wherever that is: shows it, counts attempts, ends it."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from pytest_claims.store import Failure, Store
from pytest_claims.suite.open_runs import OpenRuns
from pytest_claims.suite.planning import Plan
from pytest_claims.suite.suite import Suite
from pytest_claims.workers.display import Display, Event, display

Wanted = Mapping[str, Sequence[int]]
"""The seeds of each model that is wanted."""

MOST_ATTEMPTS = 3
"""At a run whose makers are killed, such as by a system that is out of memory."""

_SECONDS_BETWEEN_LOOKS = 2.0
"""At what other sessions on the same store have made."""


class WorkersError(RuntimeError):
    """The workers ended without making what could be made; the message has the end of what they wrote."""


@dataclass(frozen=True)
class Work:
    """The runs that a session is to make.

    Attributes:
        store: Where they go.
        plan: They and all that they are made from.
        open_runs: Which of the plan's runs are open.
        missing: Keys of those to make.
    """

    store: Store
    plan: Plan
    open_runs: OpenRuns
    missing: Sequence[str]

    def __str__(self) -> str:
        return f"{len(self.missing)} of {len(self.plan.runs)} runs to make"


def read_work(suite: Suite, wanted: Wanted, console: Console) -> Work:
    """Finds out which of the wanted runs the store lacks, unless they failed before.

    Raises:
        StoreError: There are some, and the store cannot be written to.
    """
    with console.status("reading the data and the run store"):
        plan = suite.plan(wanted)
        open_runs = OpenRuns(suite.store, plan)
        missing = [planned.key for planned in open_runs.waiting()]
    if missing:
        suite.store.check_writable()
    return Work(suite.store, plan, open_runs, missing)


class Backend(Protocol):
    """Where runs are made, and by whom."""

    def start(self) -> bool:
        """Starts what there is room for; whether anything more is to come."""

    def listen(self, driver: "Driver") -> None:
        """Waits a moment for what is told, and tells the driver of it."""

    def end(self) -> None:
        """Leaves nothing running."""


@dataclass(frozen=True)
class Loss:
    """An attempt that ended without a result, for which nothing in the run is known to be to blame.

    Attributes:
        key: Of the run; None where none had begun.
        why: All that is known.
        warning: What people are told while there are attempts left.
        verdict: What they are told of the run when there are none.
        made_others: Whether its maker had ended runs before: then lost beginnings are counted anew.
    """

    key: str | None
    why: str
    warning: str
    verdict: str
    made_others: bool = False


def drive(work: Work, backend: Backend, console: Console) -> None:
    """Has the work's runs made, and shows how far it is.

    Raises:
        WorkersError: The backend ended before all was made.
    """
    try:
        with display(work.plan, work.missing, console) as shown:
            problems = Driver(work, shown).run(backend)
    except KeyboardInterrupt:
        console.print("interrupted: what was made is kept, and the next session goes on from there")
        raise
    if problems and work.open_runs.waiting():
        raise WorkersError("\n".join(problems))
    for problem in problems:
        console.out(f"warning: {problem}\nother workers have made what it left", highlight=False)


class Driver:
    """Takes in what a backend tells."""

    def __init__(self, work: Work, shown: Display) -> None:
        self._store, self._plan, self._shown = work.store, work.plan, shown
        self._losses: Counter[str | None] = Counter()
        self._unseen = set(work.missing)
        self._looked = time.monotonic()
        self._problems: dict[str, None] = {}  # workers that meet the same full disk need not all say so

    def run(self, backend: Backend) -> list[str]:
        """Listens until the backend has ended, which it does by itself; returns why parts of it ended early."""
        try:
            while backend.start():
                backend.listen(self)
                if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
                    self._show_what_others_made()
                self._shown.tick()
            self._show_what_others_made()
        finally:
            backend.end()
        return list(self._problems)

    def _show_what_others_made(self) -> None:
        self._looked = time.monotonic()
        for key in tuple(self._unseen):
            if self._store.holds(key):
                self.show({"event": "done", "key": key})
            elif failure := self._store.failure(key):
                self.show({"event": "failed", "key": key, "message": failure.message})

    def show(self, event: Event) -> None:
        """Shows an event, unless it is told late: its run was seen in the store."""
        key = event.get("key")
        if key is not None and key not in self._unseen:
            return
        if event["event"] in ("done", "failed"):
            self._unseen.discard(event["key"])
        self._shown.show(event)

    def fail(self, key: str, failure: Failure) -> None:
        """Takes in that a run has failed."""
        self._store.record_failure(key, failure)
        self.show({"event": "failed", "key": key, "message": failure.message})

    def stumble(self, problem: str) -> None:
        """Takes in that a part of the backend has ended early, and is not replaced."""
        self._problems[problem] = None

    def lose(self, loss: Loss) -> bool:
        """Takes in a loss; a run that has had `MOST_ATTEMPTS` counts as failed. Whether there is reason to go on."""
        if loss.made_others:
            self._losses.pop(None, None)
        self._losses[loss.key] += 1
        if self._losses[loss.key] < MOST_ATTEMPTS:
            self.show({"event": "warning", "message": loss.warning})
        elif loss.key is None:
            self.stumble(loss.why)
            return False
        else:
            title = self._plan.runs[loss.key].run.title
            self.fail(loss.key, Failure(title, f"{title}: {loss.verdict}", loss.why))
        return True
