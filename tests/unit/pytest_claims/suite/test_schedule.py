from dataclasses import replace
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.recipes.catalog import Run
from pytest_claims.recipes.recipe import Architecture, Recipe
from pytest_claims.suite.planning import PlannedRun
from pytest_claims.suite.schedule import longest_path, schedule


def planned(key, effort, *parents):
    run = Run(key, Recipe("experiments.builders.train", Architecture("experiments.models.student")), 0)
    return PlannedRun(run, key, {f"role{row}": parent for row, parent in enumerate(parents)}, effort, 0.0)


def with_paths(runs):
    """The runs with their remaining paths, found from each run down through its children."""

    def remaining(run):
        children = [child for child in runs if run.key in child.parents.values()]
        return run.effort + max(map(remaining, children), default=0.0)

    return [replace(run, remaining=remaining(run)) for run in runs]


@st.composite
def graphs(draw, largest=8):
    runs = []
    for row in range(draw(st.integers(1, largest))):
        parents = draw(st.lists(st.integers(0, row - 1), unique=True, max_size=2)) if row else []
        runs.append(planned(f"r{row}", draw(st.integers(1, 20)) / 4, *(f"r{parent}" for parent in parents)))
    return with_paths(runs)


def makespan(slots):
    return max(slot.end for slot in slots)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_a_schedule_is_one_that_workers_could_have_followed(runs, jobs):
    slots = schedule(runs, jobs)
    ends = {slot.planned.key: slot.end for slot in slots}
    assert sorted(ends) == sorted(run.key for run in runs)
    for slot in slots:
        assert slot.end == slot.start + slot.planned.effort
        assert all(ends[parent] <= slot.start for parent in slot.planned.parents.values())
        assert sum(other.start <= slot.start < other.end for other in slots) <= jobs
    assert [slot.start for slot in slots] == sorted(slot.start for slot in slots)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_nobody_is_idle_beside_ready_work_and_the_longest_path_goes_first(runs, jobs):
    slots = schedule(runs, jobs)
    ends = {slot.planned.key: slot.end for slot in slots}
    for slot in slots:
        ready = max((ends[parent] for parent in slot.planned.parents.values()), default=0.0)
        waited = [t for t in {other.end for other in slots} | {0.0} if ready <= t < slot.start]
        for moment in waited:
            running = [other for other in slots if other.start <= moment < other.end]
            assert len(running) == jobs
            started = [other for other in running if other.start >= ready]
            assert all(other.planned.remaining >= slot.planned.remaining for other in started)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_the_makespan_lies_within_its_bounds(runs, jobs):
    total = sum(run.effort for run in runs)
    path = sum(run.effort for run in longest_path(runs))
    found = makespan(schedule(runs, jobs))
    assert max(total / jobs, path) <= found <= total / jobs + (1 - 1 / jobs) * path + 1e-9
    assert makespan(schedule(runs, 1)) == pytest.approx(total)
    assert makespan(schedule(runs, len(runs))) == pytest.approx(path)


@settings(max_examples=25, deadline=None)
@given(graphs(largest=5), st.integers(2, 3))
def test_no_order_of_the_runs_beats_grahams_share_of_it(runs, jobs):
    best = min(makespan(schedule(_ranked(runs, order), jobs)) for order in permutations(range(len(runs))))
    assert best <= makespan(schedule(runs, jobs)) <= (2 - 1 / jobs) * best + 1e-9


def _ranked(runs, order):
    return [replace(run, remaining=float(rank)) for run, rank in zip(runs, order, strict=True)]


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_the_longest_path_is_a_chain_of_the_greatest_length(runs):
    path = longest_path(runs)
    assert all(before.key in after.parents.values() for before, after in pairwise(path))
    assert sum(run.effort for run in path) == pytest.approx(max(run.remaining for run in runs))
    assert path[0].parents == {}


def test_parents_that_are_not_to_be_made_hold_nobody_up():
    runs = with_paths([planned("a", 2.0, "finished"), planned("b", 3.0, "a", "finished")])
    assert [(slot.planned.key, slot.start, slot.end) for slot in schedule(runs, 2)] == [("a", 0, 2), ("b", 2, 5)]
    assert [run.key for run in longest_path(runs)] == ["a", "b"]


def test_a_long_chain_goes_before_short_runs():
    runs = with_paths(
        [planned("short", 1.0), planned("other", 1.0), planned("long", 3.0), planned("last", 3.0, "long")]
    )
    assert [slot.planned.key for slot in schedule(runs, 2)] == ["long", "short", "other", "last"]
    assert makespan(schedule(runs, 2)) == 6


def test_nothing_to_do_takes_no_time():
    assert schedule([], 3) == []
    assert longest_path([]) == []
