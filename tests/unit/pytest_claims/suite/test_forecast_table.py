import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pytest_claims.recipes.catalog import Catalog
from pytest_claims.recipes.recipe import Architecture, Recipe
from pytest_claims.store import Failure
from pytest_claims.suite.forecast import Forecast
from pytest_claims.suite.forecast_table import duration, print_forecast, seeds_text
from pytest_claims.suite.open_runs import RunState
from pytest_claims.suite.planning import make_plan
from pytest_claims.suite.schedule import schedule

BASE = Recipe("experiments.builders.train", Architecture("experiments.models.student"), shared=True)
TEACHER = Recipe(
    "experiments.builders.train", Architecture("experiments.models.resnet18"), parents=(("initial", BASE),)
)
STUDENT = Recipe(
    "experiments.builders.distill",
    Architecture("experiments.models.student"),
    parents=(("teacher", TEACHER), ("initial", BASE)),
)
CATALOG = Catalog(
    {
        "base": BASE,
        "teacher": TEACHER,
        "student": STUDENT,
        "other": Recipe("experiments.builders.train", Architecture("o")),
    }
)
SECONDS = {"base": 4.0, "teacher": 30.0, "student": 50.0, "other": 600.0}


@pytest.fixture(autouse=True)
def no_builders(monkeypatch):
    monkeypatch.setattr("pytest_claims.suite.planning.code_fingerprint", lambda modules, paths: "code")


def make_forecast(jobs=2, evidence=0, **states):
    """Three seeds of everything; states in the order of the plan by name, all to make where none are given."""
    names = {recipe: name for name, recipe in CATALOG.items()}
    wanted = {"student": (0, 1, 2), "other": (0, 1, 2)}
    plan = make_plan(CATALOG, wanted, {}, {}, lambda recipe: SECONDS[names[recipe]])
    found = {}
    for key, planned in plan.runs.items():
        given_states = states.get(planned.run.name, [RunState.WAITING] * 3)
        found[key] = given_states[planned.run.seed]
    failures = {
        key: Failure("name", f"{plan.runs[key].run.title}: too hot", "Traceback")
        for key, state in found.items()
        if state is RunState.FAILED
    }
    slots = schedule([plan.runs[key] for key, state in found.items() if state is RunState.WAITING], jobs)
    return Forecast(plan, found, failures, jobs, slots, evidence)


def printed(forecast, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_forecast(forecast, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


DONE, WAITING, FAILED, BLOCKED = RunState


def test_a_forecast_reads_like_this():
    lines = printed(
        make_forecast(
            evidence=12,
            base=[DONE],
            teacher=[DONE, FAILED, DONE],
            student=[DONE, BLOCKED, WAITING],
            other=[WAITING, DONE, WAITING],
        )
    )
    assert lines == [
        "Models, each below the one that it is made from, and the seeds of their runs",
        " model                          a run  done    to make  failed  blocked",
        " other                         10 min  1       0, 2",
        " base                           4.0 s  shared",
        "   teacher                       30 s  0, 2             1",
        "     student (also from base)    50 s  0       2                1",
        "",
        "Runs in the order in which they start, with --jobs 2",
        "   start  model    seeds",
        " 0:00:00  other    0, 2",
        " 0:10:00  student  2",
        "",
        "failed: teacher (seed 1): too hot (--retry-failed makes it again)",
        "10 runs: 5 done, 3 to make, 1 failed, 1 blocked",
        "CPU time: about 21 min",
        "wall time with --jobs 2: about 11 min",
        "longest path: about 10 min, other",
        "estimated from 12 earlier runs",
    ]


def test_a_path_of_several_models_is_told_by_their_names():
    lines = printed(make_forecast(jobs=8, other=[DONE] * 3))
    assert "longest path: about 84 s, base > teacher > student" in lines
    assert "wall time with --jobs 8: about 84 s" in lines
    assert lines[-1].startswith("estimated by rough constants")


def test_what_is_done_takes_no_time_and_has_no_order():
    lines = printed(make_forecast(base=[DONE], teacher=[DONE] * 3, student=[DONE] * 3, other=[DONE] * 3))
    assert lines[-1] == "10 runs: 10 done"
    assert not any("start" in line or "time" in line for line in lines)


def test_nothing_needed_is_said():
    plan = make_plan(CATALOG, {}, {}, {}, lambda recipe: 1.0)
    assert printed(Forecast(plan, {}, {}, 1, [], 0)) == ["no claim that needs runs is selected"]


@pytest.mark.parametrize("width", [76, 80, 120])
def test_every_model_and_number_is_whole_at_any_width(width):
    text = "\n".join(printed(make_forecast(other=[FAILED, DONE, WAITING]), width))
    for whole in ("student (also from base)", "shared", "10 min", "0:00:00", "failed", "to make"):
        assert whole in text


def planned(seeds, name="teacher"):
    plan = make_plan(CATALOG, {name: seeds}, {}, {}, lambda recipe: 1.0)
    return [plan.runs[key] for key in plan.keys[name]]


@pytest.mark.parametrize(
    ("seeds", "text"),
    [((), ""), ((3,), "3"), ((2, 0, 1), "0-2"), ((0, 1, 3, 5, 6, 7), "0-1, 3, 5-7"), ((9, 11), "9, 11")],
)
def test_seeds_read_as_spans(seeds, text):
    assert seeds_text(planned(seeds)) == text


def test_a_shared_run_has_no_seed():
    assert seeds_text(planned((0,), "base")) == "shared"


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 40), max_size=12))
def test_spans_hold_all_seeds_and_no_other(seeds):
    spans = [part.split("-") for part in seeds_text(planned(tuple(seeds))).split(", ") if part]
    assert {seed for span in spans for seed in range(int(span[0]), int(span[-1]) + 1)} == seeds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (5940, "99 min"),
        (6000, "1 h 40 min"),
        (7260, "2 h 01 min"),
        (360000, "100 h 00 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text
