"""Claims in Python, in a real pytest on the template's project."""

import os

import pytest

from pytest_claims.commands.new_project import write_project
from pytest_claims.keys.code_fingerprint import ROOT

pytest_plugins = ["pytester"]

TESTS = """
def test_reproduced(claim, narrow):
    claim(narrow["top2"] - narrow["accuracy"], at_least=-50, at_most=100)


def test_refuted(claim, narrow):
    claim(narrow["accuracy"] * 0 + [0.0, 0.1, 0.2], above=50)


def test_undecided(claim, narrow):
    claim(narrow["accuracy"] * 0 + [-1.0, 0.0, 1.5], at_least=0)


def test_equal(claim, narrow):
    claim(narrow["accuracy"] * 0 + [-0.1, 0.0, 0.15], above=0, equal_within=0.5)


def test_equal_within_what_is_allowed(claim, narrow):
    claim(narrow["accuracy"], at_most=1, equal_within=0.5)


def test_nothing_is_asked(claim, narrow):
    claim(narrow["accuracy"])


def test_no_such_bound(claim, narrow):
    claim(narrow["accuracy"], below=1)


def test_no_such_measure(claim, narrow):
    claim(narrow["speed"], above=0)


def test_of_no_model(claim):
    claim([1.0, 1.1, 0.9], above=0)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def session(pytester, monkeypatch, store):
    write_project(pytester.path / "report")
    os.chdir(pytester.path / "report")
    (pytester.path / "report/test_claims.py").write_text(TESTS)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*arguments):
        return pytester.runpytest_subprocess(
            "-p", "pytest_claims.plugin.entry", f"--store-dir={store}", "--seeds=3", "--rootdir=.", "-v", *arguments
        )

    return run


def test_each_verdict_has_its_outcome_and_its_line(session):
    result = session()
    result.stdout.fnmatch_lines(
        [
            "*test_reproduced PASSED*",
            "*test_refuted FAILED*",
            "*test_undecided INCONCLUSIVE*",
            "*test_equal EQUAL*",
            "*test_equal_within_what_is_allowed FAILED*",
            "*test_nothing_is_asked FAILED*",
            "*test_no_such_bound FAILED*",
            "*test_no_such_measure FAILED*",
            "*test_of_no_model PASSED*",
            "test_refuted: measured 0.1 * over 3 seeds; expected > 50; refuted",
            "test_undecided: measured 0.1667 * over 3 seeds; expected >= 0; inconclusive, * seeds would decide it",
            "test_equal: * over 3 seeds; expected > 0; practically equal, no difference of more than 0.5",
        ]
    )
    result.stdout.fnmatch_lines(["*'equal_within' is 0.5, and all that lies within is allowed; should be left out*"])
    result.stdout.fnmatch_lines(["*TypeError: claim() takes above, at_least, at_most and equal_within, not below"])
    result.stdout.fnmatch_lines(["*ClaimsError: narrow has no 'speed', should be one of accuracy, best_accuracy*"])
    assert result.ret == 1


def test_only_the_models_that_are_named_are_made_and_an_undecided_claim_may_fail(session):
    result = session("-k", "undecided", "--strict-claims")
    result.stdout.fnmatch_lines(["*test_undecided FAILED*"])
    result.stdout.no_fnmatch_line("*wide*")


def test_xdist_gives_the_same(session):
    result = session("-n", "2", "-k", "reproduced or undecided or test_equal")
    assert result.parseoutcomes() == {"failed": 1, "passed": 1, "equal": 1, "inconclusive": 1}


def test_the_plan_has_the_models(session):
    session("--plan").stdout.fnmatch_lines(["*narrow*", "3 runs: *"])
