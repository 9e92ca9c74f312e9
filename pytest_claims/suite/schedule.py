"""When each run of a plan would be made: the workers' loop, played with estimated durations."""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_claims.suite.planning import PlannedRun


@dataclass(frozen=True)
class Slot:
    """A run in time; seconds from now."""

    planned: PlannedRun
    start: float
    end: float


def schedule(runs: Sequence[PlannedRun], jobs: int) -> list[Slot]:
    """Plays list scheduling: whoever is free takes the ready run with the longest remaining path.

    The makespan, the last end, is at most 2 - 1/jobs times the best possible (Graham 1969).

    Args:
        runs: Those to be made, parents before children; a parent that is not among them is taken as finished.
        jobs: How many are made side by side, at least 1.

    Returns:
        The runs in the order in which they are started.
    """
    missing = _parents_among(runs)
    children = defaultdict(list)
    for row, run in enumerate(runs):
        for parent in missing[run.key]:
            children[parent].append(row)
    ready = [(-run.remaining, row) for row, run in enumerate(runs) if not missing[run.key]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    slots: list[Slot] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < jobs:
            _, row = heapq.heappop(ready)
            slots.append(Slot(runs[row], now, now + runs[row].effort))
            heapq.heappush(running, (slots[-1].end, row))
        now = running[0][0]
        while running and running[0][0] == now:
            finished = runs[heapq.heappop(running)[1]].key
            for row in children[finished]:
                missing[runs[row].key].remove(finished)
                if not missing[runs[row].key]:
                    heapq.heappush(ready, (-runs[row].remaining, row))
    return slots


def longest_path(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The chain of runs, each made from the one before, whose efforts add up to the most.

    Args:
        runs: Those to be made, parents before children.
    """
    parents = _parents_among(runs)
    paths: dict[str, list[PlannedRun]] = {}
    length: dict[str, float] = defaultdict(float)
    for run in runs:
        before = max(parents[run.key], key=lambda key: length[key], default="")
        paths[run.key] = [*paths.get(before, []), run]
        length[run.key] = length[before] + run.effort
    return max(paths.values(), key=lambda path: length[path[-1].key], default=[])


def _parents_among(runs: Sequence[PlannedRun]) -> dict[str, set[str]]:
    keys = {run.key for run in runs}
    return {run.key: keys.intersection(run.parents.values()) for run in runs}
