"""Shows how far the making of runs is: a live bar on a terminal, lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pytest_claims.suite.planning import Plan

Event = dict[str, Any]
"""Of a worker: `start`, `progress` (share, images, accuracy), `done`, `failed` and `warning` (message), or `waiting`
(holder)."""

SECONDS_BETWEEN_LINES = 60.0
"""Longer silence is broken by a line that tells how far everything is."""

_RATE_WINDOW = 10.0
"""Seconds."""

Clock = Callable[[], float]


class Display(Protocol):
    """Something that is told of every event, and several times a second in any case."""

    def show(self, event: Event) -> None:
        """Shows an event of a worker."""

    def tick(self) -> None:
        """Shows that time has passed."""


def display(
    plan: Plan, missing: Sequence[str], console: Console, now: Clock = time.monotonic
) -> AbstractContextManager[Display]:
    """A live bar on a terminal, a line for each finished run elsewhere."""
    tally = Tally(plan, missing, now)
    return _live(tally, console) if console.is_interactive else _lines(tally, console, now)


class Tally:
    """Counts what workers tell: runs done, running and waiting, images a second, and the time left.

    Args:
        plan: Has every run's title and effort.
        missing: Keys of the runs that are made.
        now: A clock in seconds that never goes back.
    """

    def __init__(self, plan: Plan, missing: Sequence[str], now: Clock) -> None:
        self._plan = plan
        self._now = now
        self._started = now()
        self._shares = dict.fromkeys(missing, 0.0)
        self._resumed: dict[str, float] = {}
        self._images: dict[str, int] = {}
        self._trained: deque[tuple[float, int]] = deque()
        self._open = set(missing)
        self._idle = "starting the workers"
        self.running: set[str] = set()
        self.total = len(missing)

    def update(self, event: Event) -> None:
        """Takes in an event."""
        kind, key = event["event"], event.get("key", "")
        if kind == "start":
            self.running.add(key)
            self._images.pop(key, None)
            self._idle = ""
        elif kind == "waiting" and not self.running:
            self._idle = f"waiting for {event['holder']}"
        elif kind == "progress":
            self._take_progress(key, event["share"], event["images"])
        elif kind in ("done", "failed"):
            self._open.discard(key)
            self.running.discard(key)
            self._shares[key] = 1.0
        if kind == "failed":
            self._leave_out_descendants(key)

    def _take_progress(self, key: str, share: float, images: int) -> None:
        """The first of a run only tells where it goes on: what a former process had trained is not counted."""
        if key in self._images:
            self._trained.append((self._now(), images - self._images[key]))
        else:
            self._resumed[key] = share
        self._images[key] = images
        self._shares[key] = share

    def _leave_out_descendants(self, failed: str) -> None:
        blocked = {failed}
        for key, planned in self._plan.runs.items():
            if blocked.intersection(planned.parents.values()):
                blocked.add(key)
                self._shares.pop(key, None)
                self._open.discard(key)

    def title(self, key: str) -> str:
        """How people are told of a run."""
        return self._plan.runs[key].run.title

    @property
    def done(self) -> int:
        """Runs that are finished, or never will be."""
        return self.total - len(self._open)

    @property
    def waiting(self) -> int:
        """Runs that nobody works on yet."""
        return len(self._open - self.running)

    @property
    def share(self) -> float:
        """How much of the effort is done."""
        return self._effort(self._shares) / sum(self._plan.runs[key].effort for key in self._shares)

    def _effort(self, shares: dict[str, float]) -> float:
        return sum(share * self._plan.runs[key].effort for key, share in shares.items() if key in self._shares)

    @property
    def images_per_second(self) -> float:
        """Trained on by all workers, over the last seconds."""
        while self._trained and self._trained[0][0] < self._now() - _RATE_WINDOW:
            self._trained.popleft()
        return sum(images for _, images in self._trained) / min(_RATE_WINDOW, max(self._now() - self._started, 1.0))

    def left(self) -> str:
        """The time left, for people: the effort to do at the speed of what was done here."""
        if self._idle and self._open:
            return self._idle
        total = sum(self._plan.runs[key].effort for key in self._shares)
        done = self._effort(self._shares)
        here = done - self._effort(self._resumed)
        if here < 0.005 * total:
            return "estimating the time left"
        seconds = (self._now() - self._started) * (total - done) / here
        return f"about {seconds:.0f} s left" if seconds < 100 else f"about {seconds / 60:.0f} min left"

    def rate(self) -> str:
        """How fast images are trained on, for people; nothing where none are."""
        return f"{rate:,.0f} images/s" if (rate := self.images_per_second) >= 0.5 else ""

    def status(self) -> str:
        """Everything in one line."""
        counts = f"{len(self.running)} running, {self.waiting} waiting"
        return ", ".join(filter(None, [counts, self.rate(), self.left()]))


class _Lines:
    def __init__(self, tally: Tally, console: Console, now: Clock) -> None:
        self._tally, self._console, self._now = tally, console, now
        self._written = now()

    def show(self, event: Event) -> None:
        self._tally.update(event)
        kind = event["event"]
        if kind == "warning":
            self._write(f"warning: {event['message']}")
        elif kind in ("done", "failed"):
            what = event.get("message") or self._tally.title(event["key"])
            self._write(f"[{self._tally.done}/{self._tally.total}] {kind} {what}; {self._tally.left()}")

    def tick(self) -> None:
        if self._now() - self._written >= SECONDS_BETWEEN_LINES:
            self._write(f"[{self._tally.done}/{self._tally.total}] {self._tally.status()}")

    def _write(self, line: str) -> None:
        self._written = self._now()
        self._console.out(line, highlight=False)


@contextmanager
def _lines(tally: Tally, console: Console, now: Clock) -> Iterator[Display]:
    yield _Lines(tally, console, now)


class _Live:
    def __init__(self, tally: Tally, progress: Progress) -> None:
        self._tally, self._progress = tally, progress
        self._all = progress.add_task("", total=1.0, note="")
        self.tick()
        self._tasks: dict[str, TaskID] = {}

    def show(self, event: Event) -> None:
        self._tally.update(event)
        kind, key = event["event"], event.get("key", "")
        if kind == "start" and key not in self._tasks:  # a killed worker may have started it before
            self._tasks[key] = self._progress.add_task(self._tally.title(key), total=1.0, note="")
        elif kind == "progress":
            self._progress.update(self._tasks[key], completed=event["share"])
            if event["accuracy"] is not None:
                self._progress.update(self._tasks[key], note=f"{event['accuracy']:.1f} %")
        elif kind in ("done", "failed") and key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key))
        if kind in ("failed", "warning"):
            self._progress.console.out(f"{kind}: {event['message']}", highlight=False)
        self.tick()

    def tick(self) -> None:
        """Counts and rate stand where the runs have their titles, so that 80 columns have room for a bar."""
        tally = self._tally
        counts = f"{tally.done}/{tally.total}, {len(tally.running)} running, {tally.waiting} waiting"
        text = ", ".join(filter(None, [counts, tally.rate()]))
        self._progress.update(self._all, description=text, completed=self._tally.share, note=self._tally.left())


@contextmanager
def _live(tally: Tally, console: Console) -> Iterator[Display]:
    title, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = (title, BarColumn(bar_width=None), note, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Live(tally, progress)
