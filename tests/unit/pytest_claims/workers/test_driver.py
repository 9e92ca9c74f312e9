import io
from collections import deque

import pytest
from fake_runs import fill, suite_without_data
from rich.console import Console

from pytest_claims.store import Failure
from pytest_claims.workers import driver
from pytest_claims.workers.driver import MOST_ATTEMPTS, Loss, WorkersError, drive, read_work

WANTED = {"student-distilled-scratch": (0,), "student-scratch": (0,)}


class Script:
    """A backend that does one thing at each moment, and has ended after the last."""

    def __init__(self, *acts):
        self._acts = deque(acts)
        self.ends = 0
        self.answers = []

    def start(self):
        return bool(self._acts)

    def listen(self, driver):
        self.answers.append(self._acts.popleft()(driver))

    def end(self):
        self.ends += 1


def show(event, **fields):
    return lambda driver: driver.show({"event": event, **fields})


def lose(key, **fields):
    return lambda driver: driver.lose(Loss(key, "killed", "killed; again", "was killed for good", **fields))


class Session:
    def __init__(self, suite):
        self.store = suite.store
        self.console = Console(file=io.StringIO(), width=200)
        self.work = read_work(suite, WANTED, self.console)
        self.keys = {planned.run.title: key for key, planned in self.work.plan.runs.items()}

    def drive(self, *acts):
        backend = Script(*acts)
        try:
            drive(self.work, backend, self.console)
        finally:
            assert backend.ends == 1
        return backend.answers

    def lines(self):
        return [line.partition(";")[0] for line in self.console.file.getvalue().splitlines()]


@pytest.fixture
def suite(tmp_path):
    return suite_without_data(tmp_path / "store")


@pytest.fixture
def session(suite):
    return Session(suite)


def test_work_tells_how_much_it_is(suite, session):
    assert str(session.work) == "3 of 3 runs to make"
    fill(suite, {"student-scratch": (0,)})
    assert str(read_work(suite, WANTED, session.console)) == "2 of 3 runs to make"


def test_a_run_that_is_lost_too_often_fails_and_its_children_are_left_out(session):
    key = session.keys["teacher-scratch (seed 0)"]
    assert session.drive(*[lose(key)] * MOST_ATTEMPTS) == [True] * MOST_ATTEMPTS
    assert session.store.failure(key) == Failure(
        "teacher-scratch (seed 0)", "teacher-scratch (seed 0): was killed for good", "killed"
    )
    assert session.lines() == [
        *["warning: killed"] * (MOST_ATTEMPTS - 1),
        "[2/3] failed teacher-scratch (seed 0): was killed for good",
    ]


def test_each_run_has_its_own_attempts(session):
    first, second = (session.keys[f"{name} (seed 0)"] for name in ("teacher-scratch", "student-scratch"))
    session.drive(*[lose(first), lose(second)] * (MOST_ATTEMPTS - 1))
    assert session.store.failed_keys() == []


def test_beginnings_that_are_lost_are_a_problem_in_the_end_and_no_runs_failure(session):
    backend = [lose(None)] * MOST_ATTEMPTS
    with pytest.raises(WorkersError, match=r"\Akilled\Z"):
        session.drive(*backend)
    assert session.store.failed_keys() == []


def test_beginnings_are_counted_anew_for_whoever_has_ended_a_run(session):
    almost = [lose(None)] * (MOST_ATTEMPTS - 1)
    assert False not in session.drive(*almost, lose(None, made_others=True), *almost[1:])


def test_problems_are_told_once_each_and_all(session):
    with pytest.raises(WorkersError, match=r"\Afull disk\nno memory\Z"):
        session.drive(*(lambda driver, what=what: driver.stumble(what) for what in ("full disk", "no memory") * 2))


def test_a_problem_is_a_warning_where_all_was_made_nevertheless(suite, session):
    session.drive(lambda driver: driver.stumble("full disk"), lambda _: fill(suite, WANTED) and None)
    assert session.lines()[-2:] == ["warning: full disk", "other workers have made what it left"]


def test_what_others_made_or_failed_at_is_shown_once(suite, session, monkeypatch):
    monkeypatch.setattr(driver, "_SECONDS_BETWEEN_LOOKS", 0.0)
    failed, made = (session.keys[f"{name} (seed 0)"] for name in ("teacher-scratch", "student-scratch"))

    def act(driver):
        fill(suite, {"student-scratch": (0,)})
        suite.store.record_failure(failed, Failure("teacher", "too hot", "Traceback"))

    session.drive(act, show("done", key=made), show("failed", key=failed, message="too late"), show("start", key=made))
    assert sorted(line.partition("] ")[2] for line in session.lines()) == [
        "done student-scratch (seed 0)",
        "failed too hot",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_whatever_ends_a_session_ends_the_backend(session, error):
    def act(driver):
        raise error

    with pytest.raises(error):
        session.drive(act)
    told = ["interrupted: what was made is kept, and the next session goes on from there"]
    assert session.console.file.getvalue().splitlines() == (told if error is KeyboardInterrupt else [])
