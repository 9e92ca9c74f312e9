import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from importlib import import_module
from types import SimpleNamespace

import pytest
from fake_runs import CLAIMS, CLOSE, VERDICTS, fill, fill_for_claims, noisy, tiny_suite
from student_sessions import take_interrupts, wait_until, workers_of

from pytest_claims.claims.claims_file import load_claims
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.plugin import hooks as pytest_plugin
from pytest_claims.plugin import session as session_module
from pytest_claims.store import Failure
from pytest_claims.workers.cluster import cluster as cluster_module
from pytest_claims.workers.cluster.resources import Cluster
from pytest_claims.workers.driver import WorkersError

pytest_plugins = ["pytester"]

# A session in this process forgets what it has imported, and numpy's own modules cannot be imported twice.
import_module("scipy.stats")
pytestmark = pytest.mark.slow

FILES = ("conftest.py", "pyproject.toml", "tests/reproduce/test_claims.py")
UNIT_TEST = "tests/unit/test_unit.py"
REPRODUCE = ("-m", "reproduce", "--profile", "tiny")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project with a few claims, whose runs look trained."""
    root = tmp_path_factory.mktemp("project")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / UNIT_TEST).parent.mkdir()
    (root / UNIT_TEST).write_text("def test_nothing():\n    pass\n")
    (root / "expected_results.json").write_text(json.dumps({"format": 1, "claims": CLAIMS}))
    fill_for_claims(tiny_suite(root / ".runs", seeds=(0, 1, 2)))
    return root


@pytest.fixture
def project(pytester, template, monkeypatch):
    shutil.copytree(template, pytester.path, dirs_exist_ok=True)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Project(pytester, monkeypatch)


class Project:
    def __init__(self, pytester, monkeypatch):
        self.pytester = pytester
        self.monkeypatch = monkeypatch
        self.path = pytester.path
        self.expected_results = self.path / "expected_results.json"
        self.written = []
        monkeypatch.setattr(pytest_plugin, "write_results", lambda *arguments: self.written.append(arguments))

    def reproduce(self, *arguments):
        """A session in this process, whose results are not written but kept."""
        # Collected by the session around this one, too, the module would be taken in place of the project's.
        self.monkeypatch.delitem(sys.modules, "tests.reproduce.test_claims", raising=False)
        return self.pytester.runpytest_inprocess(*REPRODUCE, *arguments)

    def suite(self):
        return tiny_suite(self.path / ".runs")

    def remove_run(self, model, seed):
        key = self.suite().plan({model: (seed,)}).keys[model][0]
        shutil.rmtree(self.suite().store.load(key).folder)
        return key

    def on_build(self, act):
        """Acts in place of building, with the arguments that the builder is given."""
        self.monkeypatch.setattr(session_module, "build_missing", act)

    def recorded(self, **verdicts):
        claims = [dict(entry) for entry in CLAIMS]
        for entry in claims:
            if (name := entry["id"].replace("-", "_")) in verdicts:
                entry["recorded"] = {"tiny": {"verdict": verdicts[name]}}
        self.expected_results.write_text(json.dumps({"format": 1, "claims": claims}))


def outcomes(result):
    """The outcome of each claim's test, as `-v` shows it."""
    text = result.stdout.str()
    alone = re.findall(r"^\S+::\w+\[(\S+)\] ([A-Z]+)", text, re.MULTILINE)
    under_xdist = re.findall(r"^\[gw\d\] \[ *\d+%\] ([A-Z]+) \S+::\w+\[(\S+)\]", text, re.MULTILINE)
    return dict([*alone, *((id_, outcome) for outcome, id_ in under_xdist)])


def short_summary(result):
    return result.stdout.str().partition("short test summary info")[2]


def table(result):
    text = result.stdout.str()
    return text[text.index("= claims =") : text.index("short test summary info")].rpartition("\n")[0]


UNRECORDED = {
    "q2-control": "PASSED",
    "q1-precision": "PASSED",
    "q2-teacher-parameters": "PASSED",
    "q2-student-smaller": "PASSED",
    "q2-reproduced": "PASSED",
    "q2-refuted": "FAILED",
    "q2-published": "SKIPPED",
    "q3-falls": "PASSED",
    "q4-inconclusive": "INCONCLUSIVE",
    "q4-equal": "EQUAL",
}


def test_plain_pytest_collects_no_claim(project):
    result = project.pytester.runpytest_inprocess("--collect-only", "-q")
    assert result.ret == 0
    assert "test_unit.py::test_nothing" in result.stdout.str()
    assert "test_claims.py" not in result.stdout.str()


def test_reproduce_collects_every_claim_and_leaves_other_tests_alone(project):
    (project.path / "tests/other").mkdir()
    for name in (UNIT_TEST, "tests/other/test_other.py"):
        (project.path / name).write_text("raise RuntimeError('imported')\n")
    project.on_build(lambda *_: pytest.fail("nothing is to be made"))
    result = project.reproduce("--collect-only", "-q")
    assert result.ret == 0
    collected = re.findall(r"::\w+\[(\S+)\]", result.stdout.str())
    assert sorted(collected) == sorted(VERDICTS)
    assert f"{len(CLAIMS) + 1} tests collected" in result.stdout.str()
    assert project.written == []


def test_each_claim_ends_by_its_verdict(project):
    result = project.reproduce("-v")
    assert result.ret == 1
    assert outcomes(result) == UNRECORDED
    assert result.parseoutcomes() == {"failed": 1, "passed": 7, "skipped": 1, "inconclusive": 1, "equal": 1}
    ((findings, conditions, folder),) = project.written
    assert {id_: found.verdict.value for id_, found in findings.items()} == VERDICTS
    assert (conditions.title, folder) == ("fractal images, profile tiny, 2 seeds", project.path / "results")


def test_what_is_not_applicable_is_skipped_with_its_reason(project):
    summary = short_summary(project.reproduce())
    assert "not applicable: food-11 numbers are not judged on fractal data" in summary


@pytest.mark.parametrize(
    ("verdicts", "id_", "outcome", "status"),
    [
        ({"q2_refuted": "refuted"}, "q2-refuted", "XFAIL", 0),
        ({"q2_refuted": "reproduced"}, "q2-refuted", "FAILED", 1),
        ({"q2_refuted": "refuted", "q2_reproduced": "refuted"}, "q2-reproduced", "FAILED", 1),
        ({"q2_refuted": "refuted", "q2_reproduced": "reproduced"}, "q2-reproduced", "PASSED", 0),
        ({"q2_refuted": "refuted", "q4_equal": "reproduced"}, "q4-equal", "EQUAL", 0),
        ({"q2_refuted": "practically equal"}, "q2-refuted", "XFAIL", 0),
        ({"q2_refuted": "refuted", "q4_inconclusive": "reproduced"}, "q4-inconclusive", "INCONCLUSIVE", 0),
    ],
)
def test_a_claim_that_is_recorded_ends_by_its_record(project, verdicts, id_, outcome, status):
    project.recorded(**verdicts)
    result = project.reproduce("-v")
    assert outcomes(result)[id_] == outcome
    assert result.ret == status


def test_reasons_tell_interval_expectation_and_record(project):
    measured = r"measured over 2 seeds -17\.95 \[-18\.27, -17\.63\] points; expected >= 0 points; refuted, p = 0\.\d+; "
    nothing = project.reproduce("-k", "q2-refuted").stdout.str()
    assert re.search(measured + r"nothing is recorded for profile tiny \(--record writes it\)", nothing)
    assert "Traceback" not in nothing
    project.recorded(q2_refuted="refuted")
    assert re.search("XFAIL .*" + measured + "recorded: refuted", short_summary(project.reproduce("-k", "q2-refuted")))


def test_known_refutations_fail_where_expected_failures_are_run(project):
    project.recorded(q2_refuted="refuted")
    assert outcomes(project.reproduce("-v", "--runxfail"))["q2-refuted"] == "FAILED"


def test_strict_claims_fail_where_they_are_inconclusive(project):
    project.recorded(q2_refuted="refuted")
    result = project.reproduce("-v", "--strict-claims")
    assert outcomes(result)["q4-inconclusive"] == "FAILED"
    assert outcomes(result)["q4-equal"] == "EQUAL"
    assert result.ret == 1


def test_a_practically_equal_claim_has_its_letter_and_its_words(project):
    result = project.reproduce("-k", "q4")
    assert re.search(r"test_claims\.py (I=|=I) ", result.stdout.str())
    assert "1 practically equal" in result.stdout.str()
    assert result.ret == 0


@pytest.mark.parametrize(
    ("selection", "ids"),
    [
        (("-k", "q2"), {id_ for id_ in VERDICTS if id_.startswith("q2-")}),
        (("tests/reproduce/test_claims.py::test_curves[q3-falls]",), {"q3-falls"}),
    ],
)
def test_a_selection_judges_and_makes_that_alone(project, selection, ids):
    wanted = []
    project.on_build(lambda suite, needed, *_: wanted.extend(needed))
    result = project.reproduce("-v", *selection)
    assert outcomes(result) == {id_: UNRECORDED[id_] for id_ in ids}
    assert set(project.written[0][0]) == ids
    assert ("student-distilled-finetuned" in wanted) == ("q3-falls" in ids)
    assert "teacher-finetuned-8bit" not in wanted


def test_a_verdict_does_not_depend_on_the_selection(project):
    project.reproduce()
    project.reproduce("-k", "q2-refuted")
    everything, alone = (findings["q2-refuted"] for findings, *_ in project.written)
    assert alone.judgement == everything.judgement


@pytest.mark.parametrize(
    ("option", "seeds", "difference"), [("3", "3 seeds", "8.00"), ("0,2", "2 seeds", "7.95"), ("1", "1 seed", "8.00")]
)
def test_seeds_are_chosen_by_number_or_list(project, option, seeds, difference):
    result = project.reproduce("--seeds", option, "-k", "q2-reproduced")
    assert f"fractal images, profile tiny, {seeds};" in result.stdout.str()
    assert re.search(rf"q2-reproduced +{difference} ", result.stdout.str())


class CloseProject:
    """A project of claims that few seeds do not decide."""

    def __init__(self, project):
        self.project = project
        self.seeds = 0
        project.expected_results.write_text(json.dumps({"format": 1, "claims": CLOSE}))
        shutil.rmtree(project.path / ".runs")
        project.on_build(self.make)

    def make(self, suite, needed, *_):
        self.seeds = max(self.seeds, *map(len, needed.values()))
        fill(suite, needed, noisy)


@pytest.fixture
def close(project):
    return CloseProject(project)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_seeds_are_added_until_claims_are_decided_and_all_processes_judge_on_them(close, arguments):
    few = close.project.reproduce("-v", *arguments)
    assert (close.seeds, {outcomes(few)[id_] for id_ in ("q4-close", "q4-wrong")}) == (2, {"INCONCLUSIVE"})
    result = close.project.reproduce("-v", "--until-decided", "--at-most", "60m", *arguments)
    assert close.seeds > 2
    assert {entry["id"]: outcomes(result)[entry["id"]] for entry in CLOSE} == {
        "q2-decided": "PASSED",
        "q4-close": "PASSED",
        "q4-wrong": "FAILED",
        "q4-hopeless": "INCONCLUSIVE",
    }
    # In the words of the process that ran the test.
    told = re.search(r"^measured over (\d+) seeds .*; expected > 6 points; refuted", result.stdout.str(), re.MULTILINE)
    runs = close.project.written[-1][0]["q4-wrong"].runs
    assert {len(of_model) for of_model in runs.values()} == {int(told[1])}
    assert 2 < int(told[1]) <= close.seeds
    assert re.search(r"min left; seeds are added: .*q4-wrong to 4", result.stdout.str())


def test_a_limit_of_time_alone_adds_seeds_and_none_where_it_is_short(close):
    result = close.project.reproduce("--at-most", "0s")
    assert close.seeds == 2
    assert "no time left for any (q4-" in result.stdout.str()
    close.project.reproduce("--at-most", "1h")
    assert close.seeds > 2


def test_a_plan_tells_which_claims_more_seeds_would_decide(close):
    def planned(*arguments):
        return close.project.reproduce("--plan", *arguments).stdout.str()

    assert "after these 2 seeds, more are added for claims that they do not decide" in planned("--until-decided")
    close.project.reproduce()
    told = planned("--until-decided")
    assert "Claims that more seeds would decide, if means and deviations stayed; 60 min are left" in told
    assert re.search(r"^ q4-close +\d+ +\S+ \S+ +yes *$", told, re.MULTILINE)
    assert re.search(r"^ q4-close +\d+ +\S+ \S+ +no *$", planned("--at-most", "0s"), re.MULTILINE)
    assert "q2-decided" not in told
    assert "more seeds" not in planned()
    assert close.seeds == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "x"), "--seeds x: must be a number of seeds, or a list such as 0,1,4"),
        (("--seeds", "-1"), "--seeds -1: must be a number of seeds, or a list such as 0,1,4"),
        (("--seeds", "0"), "--seeds 0: must be from 1 to 1,000 seeds"),
        (("--seeds", "99999999999"), "--seeds 99999999999: must be from 1 to 1,000 seeds"),
        (("--seeds", "1,2,1"), "--seeds 1,2,1: must have each seed once"),
        (("--seeds", "1,"), "--seeds 1,: must be a number of seeds, or a list such as 0,1,4"),
        (("--at-most", "5"), "--at-most 5: must be a time such as 90s, 60m or 2h"),
        (("--seeds", "0,2", "--until-decided"), "adds seeds to 0, 1, ..., at least two; has no use for seeds 0,2"),
        (("--seeds", "1", "--at-most", "60m"), "adds seeds to 0, 1, ..., at least two; has no use for seeds 0"),
        (("--resample",), "--profile tiny: each seed has its own images; has no use for --resample"),
        (("--jobs", "0"), "--jobs 0: must be a whole number, at least 1"),
        (("--jobs", "two"), "--jobs two: must be a whole number, at least 1"),
        (("--runs-per-gpu", "0"), "--runs-per-gpu 0: must be a whole number, at least 1"),
        (("--profile", "huge"), "--profile huge: there is none of this name; choose from default, quick, tiny"),
        (("--profile", "images"), "--profile images: needs --data-root, the folder that holds training/"),
        (("--profile", "images", "--data-root", "nowhere"), "nowhere: No such file or directory; expected a folder"),
        (("--profile", "images", "--data-root", ".", "--pretrained-weights", "none"), "none: there is no such file"),
        (("--profile", "images", "--data-root", ".", "--pretrained-weights=conftest.py"), "no readable safetensors"),
        (("--data-root", "."), "--profile tiny: has no use for --data-root; it draws its own images"),
        (("--results-dir=",), "--results-dir: is empty, must name a file or folder"),
        (("--device", "gpu"), "--device gpu: must be cpu, cuda or cuda:N"),
    ],
)
def test_a_wrong_option_ends_the_session_with_one_line(project, arguments, message):
    result = project.reproduce(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, result.errlines)
    assert line.startswith("ERROR: ")
    assert message in line
    assert "Traceback" not in result.stdout.str()


def misnamed(text):
    return text.replace('"student-scratch"', '"student-scrach"')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-5], "line 1, column "),
        (misnamed, "(q2-refuted): no recipe makes the model 'student-scrach'; did you mean 'student-scratch'"),
        (lambda text: text.replace('"at_most"', '"at_mots"'), "(q1-precision): the field 'at_mots' is unknown"),
        (lambda text: text.replace('"q2-refuted"', '"q2-reproduced"'), "repeats the id 'q2-reproduced'"),
        (lambda text: "", "line 1, column 1"),
    ],
)
def test_a_damaged_file_of_claims_ends_the_session_with_one_line(project, damage, message):
    project.expected_results.write_text(damage(project.expected_results.read_text()))
    result = project.reproduce()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, result.errlines)
    assert line.startswith(f"ERROR: {project.expected_results}: ")
    assert message in line
    assert "Traceback" not in result.stdout.str()


def test_options_stand_in_a_group_of_their_own(project):
    text = project.pytester.runpytest_inprocess("--help").stdout.str()
    group = re.search(r"^claims of a report;.*:\n((?:  .*\n)+)", text, re.MULTILINE).group(1)
    names = [
        "--profile",
        "--seeds",
        "--until-decided",
        "--at-most",
        "--plan",
        "--data-root",
        "--skip-bad-images",
        "--resample",
        "--pretrained-weights",
        "--results-dir",
        "--store-dir",
        "--jobs",
        "--device",
        "--ray",
        "--runs-per-gpu",
        "--retry-failed",
        "--strict",
        "--record",
    ]
    shown = re.findall(r"^  (--[a-z-]+)\S*, (--[a-z-]+)", group, re.MULTILINE)
    long = [f"--claims{name.removeprefix('-')}" for name in names]
    assert shown == list(zip(long, [{"--strict": "--strict-claims"}.get(name, name) for name in names], strict=True))


def test_folders_are_meant_from_where_pytest_is_started_and_lie_beside_its_configuration_otherwise(project):
    below = project.path / "below"
    below.mkdir()
    shutil.move(project.path / ".runs", below / "store")
    project.monkeypatch.chdir(below)
    project.on_build(lambda *_: None)
    told = project.reproduce("--rootdir", str(project.path), "--store-dir", "store", "--results-dir", "out/here", "..")
    assert outcomes(project.reproduce("-v", "--store-dir", "store", ".."))["q2-reproduced"] == "PASSED"
    assert [folder for *_, folder in project.written] == [below / "out/here", project.path / "results"]
    assert "tables, plots and report.html are in out/here/" in told.stdout.str()


def test_a_folder_outside_the_project_may_be_given(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(project.path / ".runs", elsewhere / "store")
    project.on_build(lambda *_: None)
    result = project.reproduce("-v", f"--store-dir={elsewhere / 'store'}", f"--results-dir={elsewhere}")
    assert outcomes(result) == UNRECORDED
    assert f"are in {elsewhere}/" in result.stdout.str()


def test_a_parameter_that_is_only_named_claim_asks_for_no_run(project):
    other = """
        import pytest

        @pytest.mark.reproduce
        @pytest.mark.parametrize("claim", ["the earth is flat"])
        def test_other(claim):
            assert claim
    """
    (project.path / "tests/reproduce/test_other.py").write_text(textwrap.dedent(other))
    project.on_build(lambda *arguments: pytest.fail("something is built"))
    project.reproduce("-k", "test_other").assert_outcomes(passed=1, deselected=len(CLAIMS) + 1)


def test_a_kind_without_claims_is_no_harm(project):
    claims = [entry for entry in CLAIMS if entry["kind"] != "curve"]
    project.expected_results.write_text(json.dumps({"format": 1, "claims": claims}))
    result = project.reproduce("-v")
    assert {entry["id"]: UNRECORDED[entry["id"]] for entry in claims}.items() <= outcomes(result).items()
    assert result.parseoutcomes() == {"failed": 1, "passed": 6, "skipped": 2, "inconclusive": 1, "equal": 1}


def test_an_entry_that_no_test_uses_fails(project):
    tests = project.path / "tests/reproduce/test_claims.py"
    text = tests.read_text()
    without = re.sub(r'@pytest\.mark\.claims\("curve"\)\ndef test_curves.*?\n\n\n', "", text, flags=re.DOTALL)
    assert "test_curves" in text
    assert "test_curves" not in without
    tests.write_text(without)
    result = project.reproduce()
    assert re.search(r"FAILED \S+::test_every_claim_has_a_test", short_summary(result))
    assert "['q3-falls'] == []" in result.stdout.str()


def test_a_failed_run_is_an_error_of_the_claims_that_need_it(project):
    project.recorded(q2_refuted="refuted")
    key = project.remove_run("student-scratch", 1)
    message = "student-scratch (seed 1): TrainingError: loss is nan in epoch 1, step 1 of 2"
    project.suite().store.record_failure(key, Failure("student-scratch (seed 1)", message, "Traceback"))
    result = project.reproduce("-v")
    assert outcomes(result) == {**UNRECORDED, "q2-refuted": "ERROR"}
    assert f"{message} (--retry-failed makes it again)" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    assert result.parseoutcomes()["errors"] == 1
    assert result.ret == 1
    assert f"1 not judged: {message}" in result.stdout.str()


def test_failed_runs_are_made_again_if_asked_for(project):
    key = project.remove_run("student-scratch", 1)
    project.suite().store.record_failure(key, Failure("student-scratch (seed 1)", "too hot", "Traceback"))
    failures = []
    project.on_build(lambda suite, *_: failures.append(suite.store.failure(key)))
    project.reproduce()
    project.reproduce("--retry-failed")
    assert [failure and failure.message for failure in failures] == ["too hot", None]


def test_workers_that_end_early_end_the_session_before_any_test(project):
    def break_down(*_):
        raise WorkersError("a worker ended with status 3\nImportError: no torch")

    project.on_build(break_down)
    result = project.reproduce()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == "ERROR: a worker ended with status 3"
    assert "ImportError: no torch" in result.stderr.lines
    assert "Traceback" not in result.stdout.str()
    assert result.parseoutcomes() == {}
    assert project.written == []


def test_a_damaged_run_is_warned_of_once(project):
    key = project.suite().plan({"student": (0,)}).keys["student"][0]
    weights = project.suite().store.load(key).weights
    weights.write_bytes(weights.read_bytes()[:-1])

    def make_again(suite, *_):
        assert suite.store.load(key) is None
        fill_for_claims(suite)

    project.on_build(make_again)
    result = project.reproduce()
    assert result.parseoutcomes()["passed"] == 7
    assert result.stdout.str().count("warning: ") == 1
    assert re.search(
        r"warning: \S*weights\.safetensors: its hash is not the one in manifest\.json", result.stdout.str()
    )


def test_results_that_cannot_be_written_cost_neither_outcomes_nor_table(project):
    project.monkeypatch.undo()
    project.monkeypatch.chdir(project.path)
    (project.path / "file").touch()
    result = project.reproduce("-v", "--results-dir", "file/results")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert outcomes(result) == UNRECORDED
    assert re.search(r"^ERROR: results folder \S*file/results: cannot write", result.stdout.str(), re.MULTILINE)
    assert "5 reproduced, 1 refuted" in result.stdout.str()
    assert "tables, plots and report.html are in" not in result.stdout.str()


def test_a_record_is_agreed_with_by_the_next_session(project):
    first = project.reproduce("-v", "--record")
    assert first.ret == 0
    assert outcomes(first)["q2-refuted"] == "XFAIL"
    assert "recorded in expected_results.json" in first.stdout.str()
    assert "1 refuted (1 as recorded)" in first.stdout.str()
    recorded = {entry.id: entry.recorded for entry in load_claims(project.expected_results).claims}
    assert {id_: record["tiny"].verdict.value for id_, record in recorded.items() if record} == {
        id_: verdict for id_, verdict in VERDICTS.items() if verdict != "not applicable"
    }
    text = project.expected_results.read_text()
    second = project.reproduce("-v")
    assert second.ret == 0
    assert outcomes(second) == outcomes(first)
    assert "recorded in" not in second.stdout.str()
    assert project.expected_results.read_text() == text


def test_a_record_of_a_selection_leaves_other_claims_alone(project):
    project.reproduce("-k", "q2-reproduced", "--record")
    recorded = {entry.id: entry.recorded for entry in load_claims(project.expected_results).claims}
    assert [id_ for id_, record in recorded.items() if record] == ["q2-reproduced"]


def test_under_xdist_outcomes_and_table_are_the_same_and_everything_is_done_once(project):
    alone = project.reproduce("-v")
    builds = []

    def make(suite, wanted, jobs, console):
        builds.append(jobs)
        fill_for_claims(suite)

    project.remove_run("student-scratch", 1)
    project.on_build(make)
    project.monkeypatch.setattr(session_module, "default_jobs", lambda *_: 7)
    spread = project.reproduce("-v", "-n", "2", "--record")
    assert spread.ret == 0
    assert builds == [2]
    assert outcomes(spread) == {**outcomes(alone), "q2-refuted": "XFAIL"}
    assert len(project.written) == 2
    assert not (project.path / "results").exists()
    again = project.reproduce("-v", "-n", "2")
    assert outcomes(again) == outcomes(spread)
    assert table(again) == table(project.reproduce("-v"))


def test_ray_that_is_not_installed_ends_the_session_with_one_line(project):
    project.monkeypatch.setitem(sys.modules, "ray", None)
    result = project.reproduce("--ray", "local")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, result.errlines)
    assert line == "ERROR: --ray local: Ray is not installed; install it with pip install ray"


@pytest.mark.parametrize(
    ("arguments", "cluster"),
    [
        (("--ray", "head:6379", "--runs-per-gpu", "3"), Cluster("head:6379", None, 3)),
        (("--ray", "local", "--jobs", "5"), Cluster("local", 5, 1)),
        # The number of processes that judge says nothing of how many runs fit on a cluster.
        (("--ray", "auto", "-n", "1"), Cluster("auto", None, 1)),
    ],
)
def test_with_ray_the_runs_are_made_on_a_cluster(project, arguments, cluster):
    project.remove_run("student-scratch", 1)
    builds = []

    def make(suite, wanted, cluster, console):
        builds.append(cluster)
        fill_for_claims(suite)

    project.monkeypatch.setattr(cluster_module, "build_on_cluster", make)
    result = project.reproduce("-k", "q2-refuted", *arguments)
    assert builds == [cluster]
    assert "q2-refuted" in result.stdout.str()


@pytest.mark.parametrize("damage", [misnamed, lambda text: text[:-5]])
def test_under_xdist_a_damaged_file_is_the_same_one_line(project, damage):
    project.expected_results.write_text(damage(project.expected_results.read_text()))
    result = project.reproduce("-n", "1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, result.errlines)
    assert line.startswith(f"ERROR: {project.expected_results}: ")


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_a_plan_shows_what_is_missing_and_makes_and_judges_nothing(project, arguments):
    project.on_build(lambda *_: pytest.fail("something is built"))
    failed, message = project.remove_run("student-scratch", 1), "student-scratch (seed 1): too hot"
    project.suite().store.record_failure(failed, Failure("student-scratch (seed 1)", message, "Traceback"))
    project.remove_run("teacher-finetuned", 0)
    result = project.reproduce("--plan", "--jobs", "3", *arguments)
    text = result.stdout.str()
    assert result.ret == 0
    assert re.search(r"^ +teacher-finetuned +\S+ s +1 +0 *$", text, re.MULTILINE)
    assert re.search(r"^ student-scratch +\S+ s +0 +1 *$", text, re.MULTILINE)
    assert re.search(r"^ 0:00:00 +teacher-finetuned +0 *$", text, re.MULTILINE)
    assert f"failed: {message} (--retry-failed makes it again)" in text
    assert re.search(r"^\d+ runs: \d+ done, 1 to make, 1 failed$", text, re.MULTILINE)
    assert "wall time with --jobs 1: about" in text
    assert f"{len(CLAIMS) + 1} tests collected" in text
    assert project.written == []
    assert not (project.path / "results").exists()
    assert project.suite().store.failure(failed).message == message


def test_a_plan_is_of_the_selection_with_as_many_jobs_as_the_session_would_have(project):
    shutil.rmtree(project.path / ".runs/runs")
    told = project.reproduce("--plan", "-n", "2", "-k", "q2-reproduced", "--seeds", "3").stdout.str()
    assert re.findall(r"^ +(\S+) +\S+ s +(shared|0-2) *$", told, re.MULTILINE) == [
        ("backbone", "shared"),
        ("teacher-finetuned", "0-2"),
        ("teacher-scratch", "0-2"),
    ]
    assert "7 runs: 7 to make" in told
    assert "wall time with --jobs 2: about" in told
    project.monkeypatch.setattr(session_module, "default_jobs", lambda *_: 5)
    assert "with --jobs 5: about" in project.reproduce("--plan", "-k", "q2-reproduced", "--seeds", "3").stdout.str()


def test_a_plan_with_retries_counts_failed_runs_as_to_make_and_keeps_their_failures(project):
    key = project.remove_run("student-scratch", 1)
    project.suite().store.record_failure(key, Failure("student-scratch (seed 1)", "too hot", "Traceback"))
    result = project.reproduce("--plan", "--retry-failed")
    assert re.search(r"^\d+ runs: \d+ done, 1 to make$", result.stdout.str(), re.MULTILINE)
    assert project.suite().store.failure(key) is not None


@pytest.mark.parametrize(
    ("selection", "status"),
    [("test_every_claim_has_a_test", 0), ("q2-published", 0), ("no_such_claim", pytest.ExitCode.NO_TESTS_COLLECTED)],
)
def test_a_plan_without_claims_says_so_and_ends_as_collecting_does(project, selection, status):
    planned = project.reproduce("--plan", "-k", selection)
    assert "no claim that needs runs is selected" in planned.stdout.str()
    assert planned.ret == project.reproduce("--collect-only", "-k", selection).ret == status


def test_a_plan_warns_of_a_damaged_run_and_would_make_it_again(project):
    key = project.suite().plan({"student": (0,)}).keys["student"][0]
    weights = project.suite().store.load(key).weights
    weights.write_bytes(weights.read_bytes()[:-1])
    text = project.reproduce("--plan").stdout.str()
    assert text.count("warning: ") == 1
    assert re.search(r"^ 0:00:00 +student +shared *$", text, re.MULTILINE)


def test_a_plan_after_an_error_of_collecting_is_not_made(project):
    (project.path / "tests/reproduce/test_broken.py").write_text("raise RuntimeError('broken')\n")
    result = project.reproduce("--plan")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "runs: " not in result.stdout.str()


def test_a_plan_that_cannot_be_made_ends_the_session_with_one_line(project):
    (project.path / "file").touch()
    result = project.reproduce("--plan", "--store-dir=file/store")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, result.errlines)
    assert line.startswith("ERROR: run store ")


WITNESS = """
import sys

def pytest_unconfigure():
    print("\\ntorch is imported:", "torch" in sys.modules)
"""


def witnessed(project, *arguments):
    """A session in a process of its own that tells in the end whether torch is imported."""
    (project.path / "witness.py").write_text(WITNESS)
    command = [sys.executable, "-m", "pytest", "-p", "witness", *REPRODUCE, "--results-dir=out", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(project.path)])}
    result = subprocess.run(command, cwd=project.path, env=environment, capture_output=True, text=True, check=False)
    assert "torch is imported: False" in result.stdout
    assert result.stderr == ""
    return result


def test_a_plan_never_imports_torch_and_writes_no_results(project):
    shutil.rmtree(project.path / ".runs/runs")
    result = witnessed(project, "--plan")
    assert result.returncode == 0
    assert "CPU time: about" in result.stdout
    assert not (project.path / "out").exists()


def test_a_session_that_has_its_runs_never_imports_torch_and_writes_its_results(project):
    result = witnessed(project)
    assert result.returncode == 1
    with (project.path / "out/claims.csv").open(newline="") as file:
        assert {row["claim"]: row["verdict"] for row in csv.DictReader(file)} == {**VERDICTS, "q2-control": "holds"}
    assert (project.path / "out/report.html").stat().st_size > 0
    assert not (project.path / "results").exists()


@pytest.mark.parametrize("arguments", [(), ("-n", "1")])
def test_an_interrupted_session_leaves_no_worker_and_no_half_run(project, arguments):
    store = project.path / "interrupted"
    command = [sys.executable, "-m", "pytest", *REPRODUCE, "-k", "q2-reproduced", f"--store-dir={store}"]
    with subprocess.Popen(
        [*command, *arguments], cwd=project.path, stdout=subprocess.DEVNULL, preexec_fn=take_interrupts
    ) as session:
        try:
            wait_until(lambda: list(store.glob("locks/*.owner")))
            assert workers_of(store)
            session.send_signal(signal.SIGINT)
            assert session.wait() == pytest.ExitCode.INTERRUPTED
        finally:
            session.kill()
    assert workers_of(store) == []
    suite = tiny_suite(store)
    planned = suite.plan({"teacher-finetuned": (0, 1), "teacher-scratch": (0, 1)})
    assert {path.name for path in store.glob("runs/*")} <= set(planned.runs)
    assert list(store.glob("failed/*")) == []


def test_what_a_terminal_shows_for_ctrl_c_fits_beside_the_live_display():
    writer = SimpleNamespace(_file=io.StringIO(), fullwidth=80, hasmarkup=True)
    console = pytest_plugin._console(SimpleNamespace(get_terminal_writer=lambda: writer))
    console.print("=" * 200, end="", soft_wrap=False)
    assert max(map(len, writer._file.getvalue().splitlines())) + len("^C") == 80
