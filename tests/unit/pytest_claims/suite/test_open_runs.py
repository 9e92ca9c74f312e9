import pytest
from fake_runs import fill, suite_without_data

from pytest_claims.store import Failure
from pytest_claims.suite.open_runs import OpenRuns, RunState

WANTED = {"student-distilled-scratch": (0, 1), "student-scratch": (0,)}


@pytest.fixture
def suite(tmp_path):
    return suite_without_data(tmp_path / "store")


def open_runs(suite):
    return OpenRuns(suite.store, suite.plan(WANTED))


def titles(planned):
    return {each.run.title for each in planned}


def fail(suite, model, seed):
    key = suite.plan({model: (seed,)}).keys[model][0]
    suite.store.record_failure(key, Failure(model, "too hot", "Traceback"))


def test_all_of_an_empty_store_is_waiting_and_what_has_no_parents_is_ready(suite):
    runs = open_runs(suite)
    waiting = runs.waiting()
    assert [planned.key for planned in waiting] == list(suite.plan(WANTED).runs)
    assert titles(runs.ready(waiting)) == {
        "teacher-scratch (seed 0)",
        "teacher-scratch (seed 1)",
        "student-scratch (seed 0)",
    }


def test_a_finished_run_waits_no_more_and_makes_its_children_ready(suite):
    runs = open_runs(suite)
    before = runs.waiting()
    fill(suite, {"teacher-scratch": (1,)})
    assert titles(before) - titles(runs.waiting()) == {"teacher-scratch (seed 1)"}
    assert "student-distilled-scratch (seed 1)" in titles(runs.ready(runs.waiting()))


def test_a_failure_takes_what_is_made_from_it_along(suite):
    fail(suite, "teacher-scratch", 0)
    assert titles(open_runs(suite).waiting()) == {
        "teacher-scratch (seed 1)",
        "student-distilled-scratch (seed 1)",
        "student-scratch (seed 0)",
    }


def test_a_failure_of_a_run_that_is_stored_blocks_nothing(suite):
    fill(suite, {"teacher-scratch": (0,)})
    fail(suite, "teacher-scratch", 0)
    assert "student-distilled-scratch (seed 0)" in titles(open_runs(suite).waiting())


def test_every_run_has_a_state(suite):
    wanted = {"pruned-0.9-2-bn": (0,), **WANTED}
    fill(suite, {"student-scratch": (0,), "backbone": (0,)})
    fail(suite, "student-scratch", 0)
    fail(suite, "teacher-finetuned", 0)
    fail(suite, "pruned-0.9-2-bn", 0)
    fail(suite, "teacher-scratch", 1)
    plan = suite.plan(wanted)
    states = OpenRuns(suite.store, plan).states()
    assert list(states) == list(plan.runs)
    assert {plan.runs[key].run.title: state for key, state in states.items()} == {
        "backbone (shared)": RunState.DONE,
        "teacher-finetuned (seed 0)": RunState.FAILED,
        "student-distilled-finetuned (seed 0)": RunState.BLOCKED,
        "pruned-0.9-1-bn (seed 0)": RunState.BLOCKED,
        "pruned-0.9-2-bn (seed 0)": RunState.FAILED,
        "teacher-scratch (seed 0)": RunState.WAITING,
        "student-distilled-scratch (seed 0)": RunState.WAITING,
        "teacher-scratch (seed 1)": RunState.FAILED,
        "student-distilled-scratch (seed 1)": RunState.BLOCKED,
        "student-scratch (seed 0)": RunState.DONE,
    }


def test_finished_runs_are_read_once(suite, monkeypatch):
    fill(suite, {"teacher-scratch": (0, 1)})
    finished = {key for key in suite.plan(WANTED).runs if suite.store.load(key)}
    read, load = [], suite.store.load
    monkeypatch.setattr(suite.store, "load", lambda key: (read.append(key), load(key))[1])
    runs = open_runs(suite)
    for _ in range(3):
        runs.waiting()
    assert sorted(key for key in read if key in finished) == sorted(finished)
