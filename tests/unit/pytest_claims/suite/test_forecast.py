import pytest
from fake_runs import fill, suite_without_data

from pytest_claims.store import Failure
from pytest_claims.suite.forecast import forecast
from pytest_claims.suite.open_runs import RunState

WANTED = {"student-distilled-scratch": (0, 1), "student-scratch": (0,), "student": (0,)}


@pytest.fixture
def suite(tmp_path):
    return suite_without_data(tmp_path / "store")


def look(suite, jobs=2, retry_failed=False):
    return forecast(suite, WANTED, jobs, retry_failed=retry_failed)


def titles(runs):
    return [planned.run.title for planned in runs]


def fail(suite, model, seed):
    key = suite.plan({model: (seed,)}).keys[model][0]
    suite.store.record_failure(key, Failure(model, f"{model}: too hot", "Traceback"))
    return key


def test_an_empty_store_lacks_everything(suite):
    found = look(suite)
    assert set(found.states.values()) == {RunState.WAITING}
    efforts = {planned.run.title: planned.effort for planned in found.plan.runs.values()}
    assert found.cpu_seconds == pytest.approx(sum(efforts.values()))
    path = efforts["teacher-scratch (seed 0)"] + efforts["student-distilled-scratch (seed 0)"]
    assert sum(planned.effort for planned in found.longest_path) == pytest.approx(path)
    assert max(found.cpu_seconds / 2, path) <= found.wall_seconds < found.cpu_seconds
    assert (found.failures, found.jobs, found.evidence) == ({}, 2, 0)


def test_one_job_takes_the_longest_paths_first(suite):
    found = look(suite, jobs=1)
    assert found.wall_seconds == pytest.approx(found.cpu_seconds)
    remaining = {planned.run.title: planned.remaining for planned in found.plan.runs.values()}
    assert titles(slot.planned for slot in found.slots) == sorted(remaining, key=lambda title: -remaining[title])


def test_only_what_is_missing_takes_time(suite):
    fill(suite, {"teacher-scratch": (0, 1), "student-distilled-scratch": (0,), "student": (0,)})
    found = look(suite)
    assert titles(slot.planned for slot in found.slots) == [
        "student-distilled-scratch (seed 1)",
        "student-scratch (seed 0)",
    ]
    assert all(slot.start == 0 for slot in found.slots)
    assert titles(found.longest_path) == ["student-distilled-scratch (seed 1)"]


def test_there_are_never_more_jobs_than_runs_to_make(suite):
    assert look(suite, jobs=99).jobs == len(look(suite).plan.runs) == 6
    fill(suite, WANTED)
    done = look(suite, jobs=99)
    assert (done.jobs, done.cpu_seconds, done.wall_seconds, done.longest_path) == (1, 0, 0, [])


def test_failures_are_told_and_hold_up_what_is_made_from_them_unless_they_are_tried_again(suite):
    key = fail(suite, "teacher-scratch", 1)
    found = look(suite)
    assert {key: failure.message for key, failure in found.failures.items()} == {key: "teacher-scratch: too hot"}
    assert sorted(found.states.values()) == [RunState.BLOCKED, RunState.FAILED, *[RunState.WAITING] * 4]
    assert len(found.slots) == 4
    again = look(suite, retry_failed=True)
    assert (again.failures, len(again.slots)) == ({}, 6)
    assert suite.store.failure(key) is not None


def test_a_forecast_makes_nothing(suite):
    look(suite)
    assert [path for path in suite.store.root.rglob("*") if path.is_file()] == []
