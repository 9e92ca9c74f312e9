import io

import pytest
from fake_runs import suite_without_data
from rich.console import Console

from pytest_claims.workers.display import SECONDS_BETWEEN_LINES, Tally, display

WANTED = {"student-scratch": (0, 1)}
FIRST, SECOND = "student-scratch (seed 0)", "student-scratch (seed 1)"


@pytest.fixture
def suite(tmp_path):
    return suite_without_data(tmp_path / "store")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def plain():
    return Console(file=io.StringIO(), width=200)


def terminal(**options):
    return Console(file=io.StringIO(), force_terminal=True, width=120, **options)


def lines(console):
    return console.file.getvalue().splitlines()


def keys_of(suite, wanted=WANTED):
    return {planned.run.title: key for key, planned in suite.plan(wanted).runs.items()}


def start(key):
    return {"event": "start", "key": key}


def progress(key, share, images=0, accuracy=50.0):
    return {"event": "progress", "key": key, "share": share, "images": images, "accuracy": accuracy}


def done(key):
    return {"event": "done", "key": key}


def failed(key, message):
    return {"event": "failed", "key": key, "message": message}


def shown_lines(suite, wanted, events, clock):
    """What is printed for events, each given with the second at which it comes; None lets time pass."""
    plan, console = suite.plan(wanted), plain()
    with display(plan, list(plan.runs), console, clock) as shown:
        for second, event in events:
            clock.now = 100.0 + second
            shown.tick() if event is None else shown.show(event)
    return lines(console)


def tally_of(suite, clock, wanted=WANTED):
    plan = suite.plan(wanted)
    return Tally(plan, list(plan.runs), clock)


def test_the_time_left_follows_from_the_effort_that_is_done(suite, clock):
    wanted = {"teacher-scratch": (0,), "student-scratch": (0,)}
    plan = suite.plan(wanted)
    teacher, student = plan.keys["teacher-scratch"][0], plan.keys["student-scratch"][0]
    efforts = [plan.runs[key].effort for key in (teacher, student)]
    events = [
        (0, start(teacher)),
        (0, start(student)),
        (0, progress(teacher, 0.0)),
        (30, progress(teacher, 0.5)),
        (40, done(student)),
    ]
    (line,) = shown_lines(suite, wanted, events, clock)
    made = 0.5 * efforts[0] + efforts[1]
    left = 40 * (sum(efforts) - made) / made
    assert line == f"[1/2] done student-scratch (seed 0); about {left:.0f} s left"


def test_a_long_time_left_is_told_in_minutes(suite, clock):
    first, second = keys_of(suite).values()
    events = [(0, start(first)), (0, start(second)), (600, done(first))]
    assert shown_lines(suite, WANTED, events, clock) == [f"[1/2] done {FIRST}; about 10 min left"]


def test_what_a_former_session_had_trained_does_not_shorten_the_time_left(suite, clock):
    tally, (first, second) = tally_of(suite, clock), keys_of(suite).values()
    for key in (first, second):
        tally.update(start(key))
    tally.update(progress(first, 0.8, 800))
    assert tally.share == pytest.approx(0.4)
    assert tally.left() == "estimating the time left"
    clock.now += 10
    tally.update(progress(first, 0.9, 900))
    assert tally.left() == f"about {10 * (2 - 0.9) / 0.1 / 60:.0f} min left"
    assert tally.images_per_second == pytest.approx(10)


def test_images_of_all_workers_count_in_the_rate_and_old_ones_do_not(suite, clock):
    tally, (first, second) = tally_of(suite, clock), keys_of(suite).values()
    for key in (first, second):
        tally.update(start(key))
        tally.update(progress(key, 0.0, 0))
    clock.now += 5
    tally.update(progress(first, 0.1, 1000))
    assert tally.images_per_second == pytest.approx(200)
    clock.now += 7
    tally.update(progress(second, 0.1, 3000))
    assert tally.images_per_second == pytest.approx(400)
    clock.now += 8
    assert tally.images_per_second == pytest.approx(300)
    clock.now += 100
    assert tally.images_per_second == 0


def test_while_nothing_runs_the_reason_is_told(suite, clock):
    tally, (first, second) = tally_of(suite, clock), keys_of(suite).values()
    assert tally.status() == "0 running, 2 waiting, starting the workers"
    tally.update(start(first))
    assert tally.left() == "estimating the time left"
    tally.update({"event": "waiting", "holder": "process 7"})  # a worker that finds nothing to do beside one that works
    assert tally.left() == "estimating the time left"
    clock.now += 10
    tally.update(done(first))
    tally.update({"event": "waiting", "holder": "process 7"})
    assert tally.left() == "waiting for process 7"
    tally.update(done(second))
    assert tally.left() == "about 0 s left"


@pytest.mark.parametrize("width", [80, 100])
def test_a_terminal_of_usual_width_shows_titles_bars_and_times_whole(tmp_path, width):
    suite = suite_without_data(tmp_path / "longer")
    wanted = {"student-distilled-finetuned": (0,)}
    plan = suite.plan(wanted)
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with display(plan, list(plan.runs), console) as shown:
        for key in plan.runs:
            shown.show(start(key))
            shown.show(progress(key, 0.01, 0))
            shown.show(progress(key, 0.5, 20_000))
        before = console.file.tell()
        shown.show({"event": "warning", "message": "look"})
    frame = console.file.getvalue()[before:]
    for whole in (
        "student-distilled-finetuned (seed 0)",
        "0/3, 2 running, 1 waiting",
        "images/s",
        " left",
        "0:00:00",
        "━" * 5,
    ):
        assert whole in frame
    assert "…" not in frame


def test_runs_are_running_waiting_or_done(suite, clock):
    wanted = {"student-scratch": (0, 1), "pruned-0.9-1-bn": (0,)}
    tally, keys = tally_of(suite, clock, wanted), keys_of(suite, wanted)
    counts = [(tally.done, len(tally.running), tally.waiting, tally.total)]
    for event in (start(keys[FIRST]), start(keys["backbone (shared)"]), done(keys[FIRST])):
        tally.update(event)
        counts.append((tally.done, len(tally.running), tally.waiting, tally.total))
    tally.update(failed(keys["backbone (shared)"], "too hot"))
    counts.append((tally.done, len(tally.running), tally.waiting, tally.total))
    assert counts == [(0, 0, 6, 6), (0, 1, 5, 6), (0, 2, 4, 6), (1, 1, 4, 6), (5, 0, 1, 6)]


def test_a_run_whose_last_epoch_is_over_is_not_yet_done(suite, clock):
    first, second = keys_of(suite).values()
    events = [(0, start(first)), (0, start(second)), (1, progress(second, 1.0)), (1, done(first)), (2, done(second))]
    assert [line.partition(" ")[0] for line in shown_lines(suite, WANTED, events, clock)] == ["[1/2]", "[2/2]"]


def test_what_a_failed_run_keeps_from_being_made_takes_no_time(suite, clock):
    wanted = {"student-scratch": (0,), "pruned-0.9-1-bn": (0,)}
    keys = keys_of(suite, wanted)
    bad, other = keys["backbone (shared)"], keys[FIRST]
    events = [(0, start(bad)), (0, start(other)), (10, failed(bad, "backbone: too hot")), (30, done(other))]
    whole = suite.plan(wanted).runs[bad].effort
    left = 10 * suite.plan(wanted).runs[other].effort / whole
    assert shown_lines(suite, wanted, events, clock) == [
        f"[4/5] failed backbone: too hot; about {left:.0f} s left",
        f"[5/5] done {FIRST}; about 0 s left",
    ]


def test_what_another_session_made_is_done_too(suite, clock):
    first, _ = keys_of(suite).values()
    (line,) = shown_lines(suite, WANTED, [(5, done(first))], clock)
    assert line.startswith(f"[1/2] done {FIRST}; ")


def test_a_long_silence_is_broken_by_a_line_that_tells_how_far_everything_is(suite, clock):
    first, _ = keys_of(suite).values()
    events = [
        (0, start(first)),
        (0, progress(first, 0.0)),
        (SECONDS_BETWEEN_LINES - 5, progress(first, 0.5, 2000)),
        (SECONDS_BETWEEN_LINES - 1, None),
        (SECONDS_BETWEEN_LINES, None),
        (SECONDS_BETWEEN_LINES + 1, None),
    ]
    assert shown_lines(suite, WANTED, events, clock) == [
        "[0/2] 1 running, 1 waiting, 200 images/s, about 3 min left",
    ]


def test_warnings_have_a_line(suite, clock):
    warning = {"event": "warning", "message": "a worker was [red]killed[/red]"}
    assert shown_lines(suite, WANTED, [(0, warning)], clock) == ["warning: a worker was [red]killed[/red]"]


def test_a_terminal_has_a_live_bar(suite):
    first, second = keys_of(suite).values()
    plan, console = suite.plan(WANTED), terminal()
    events = (start(first), progress(first, 0.5), progress(first, 0.6, 10, None), start(second), done(first))
    with display(plan, list(plan.runs), console) as shown:
        for event in events:
            shown.show(event)
        shown.tick()
    written = console.file.getvalue()
    assert "━" in written
    assert "1/2, 1 running, 0 waiting" in written
    assert SECOND in written
    assert "50.0 %" in written


def test_a_live_display_tells_of_failures_and_leaves_nothing_else(suite):
    key = next(iter(keys_of(suite).values()))
    plan, console = suite.plan(WANTED), terminal()
    with display(plan, list(plan.runs), console) as shown:
        shown.show(start(key))
        shown.show(failed(key, "student: ValueError: [red]too hot[/red]"))
        shown.show({"event": "warning", "message": "a worker was killed"})
    assert "failed: student: ValueError: [red]too hot[/red]" in console.file.getvalue()
    assert "warning: a worker was killed" in console.file.getvalue()
    assert console.file.getvalue().endswith("\x1b[2K")


def test_a_run_that_a_killed_worker_started_is_shown_once(suite):
    key = next(iter(keys_of(suite).values()))
    plan, console = suite.plan(WANTED), terminal()
    with display(plan, list(plan.runs), console) as shown:
        shown.show(start(key))
        before = console.file.tell()
        shown.show(start(key))
    last_frame = console.file.getvalue()[before:]
    assert last_frame.count(FIRST) == 1


def test_colours_without_a_terminal_have_lines(suite):
    first, _ = keys_of(suite).values()
    plan, console = suite.plan(WANTED), terminal(force_interactive=False)
    with display(plan, list(plan.runs), console) as shown:
        shown.show(start(first))
        shown.show(done(first))
    (line,) = lines(console)
    assert line.startswith(f"[1/2] done {FIRST}; ")
