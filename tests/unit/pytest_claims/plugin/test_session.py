import io
import json
from dataclasses import replace

import pytest
from fake_runs import CLAIMS, CLOSE, VERDICTS, claim, fill, fill_for_claims, noisy, suite_without_data
from our_project import OURS
from rich.console import Console

from pytest_claims.claims.claim import ClaimsError, Recorded
from pytest_claims.claims.claims_file import load_claims, save_claims, with_recorded
from pytest_claims.plugin import session as session_module
from pytest_claims.plugin.session import SUITE_ERRORS, ClaimSession
from pytest_claims.recipes.profile import ProfileError
from pytest_claims.store import Failure
from pytest_claims.suite.suite import SuiteOptions
from pytest_claims.verdicts.verdict import Verdict
from pytest_claims.workers.cluster import cluster as cluster_module
from pytest_claims.workers.cluster.resources import Cluster
from pytest_claims.workers.driver import WorkersError
from pytest_claims.workers.slots import default_jobs

CONSOLE = Console(file=io.StringIO())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "expected_results.json"
    path.write_text(json.dumps({"format": 1, "claims": CLAIMS}))
    return path


@pytest.fixture
def session(path, tmp_path):
    session = ClaimSession(path, SuiteOptions(OURS, "tiny", tmp_path / "store"))
    session.suite = suite_without_data(tmp_path / "store")
    return session


@pytest.fixture
def builds(monkeypatch):
    calls = []
    monkeypatch.setattr(session_module, "build_missing", lambda *arguments: calls.append(arguments))
    return calls


def build(session, *ids, jobs=None, retry_failed=False):
    claims = [claim for claim in session.claims if claim.id in ids]
    session.build(claims, jobs, CONSOLE, retry_failed=retry_failed)


def test_nothing_is_read_or_made_before_it_is_asked_for(tmp_path):
    session = ClaimSession(tmp_path / "missing.json", SuiteOptions(OURS, "no such profile", tmp_path / "store"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ClaimsError, match=r"missing\.json: cannot be read"):
        _ = session.claims


def test_a_profile_that_is_unknown_is_an_error_of_the_user(path, tmp_path):
    with pytest.raises(ProfileError, match=r"--profile huge: .* choose from default, quick, tiny") as raised:
        _ = ClaimSession(path, SuiteOptions(OURS, "huge", tmp_path / "store")).suite
    assert isinstance(raised.value, SUITE_ERRORS)


def test_a_model_that_no_recipe_makes_is_told_with_file_and_claim(path, tmp_path):
    wrong = claim("q2-wrong", "parameters", models=["studnet"], equals=3)
    path.write_text(json.dumps({"format": 1, "claims": [*CLAIMS, wrong]}))
    with pytest.raises(ClaimsError) as raised:
        _ = ClaimSession(path, SuiteOptions(OURS, "tiny", tmp_path / "store")).suite
    told = f"{path}: claims[{len(CLAIMS)}] (q2-wrong): no recipe makes the model 'studnet'"
    assert str(raised.value).startswith(told)
    assert "did you mean 'student'" in str(raised.value)


def test_conditions_are_the_suites(session):
    assert session.conditions.title == "fractal images, profile tiny, 2 seeds"


def test_a_build_asks_for_what_applicable_claims_need(session, builds):
    build(session, "q2-student-smaller", "q2-reproduced", "q2-published", jobs=3)
    ((suite, wanted, jobs, console),) = builds
    assert (suite, jobs, console) == (session.suite, 3, CONSOLE)
    assert wanted == {
        "resnet18": (0,),
        "student": (0,),
        "teacher-finetuned": (0, 1),
        "teacher-scratch": (0, 1),
    }


def test_without_a_number_of_jobs_the_machine_decides(session, builds):
    build(session, "q2-reproduced")
    assert builds[0][2] == default_jobs()


def test_with_a_cluster_nothing_is_built_on_this_machine(session, builds, monkeypatch):
    calls = []
    monkeypatch.setattr(cluster_module, "build_on_cluster", lambda *arguments: calls.append(arguments))
    cluster = Cluster("local")
    session.build(
        [claim for claim in session.claims if claim.id == "q2-reproduced"],
        3,
        CONSOLE,
        retry_failed=False,
        cluster=cluster,
    )
    assert builds == []
    assert calls == [(session.suite, {"teacher-finetuned": (0, 1), "teacher-scratch": (0, 1)}, cluster, CONSOLE)]


def test_the_same_is_not_built_twice(session, builds):
    build(session, "q2-reproduced")
    build(session, "q2-reproduced")
    build(session, "q2-refuted")
    assert [list(wanted) for _, wanted, *_ in builds] == [
        ["teacher-finetuned", "teacher-scratch"],
        ["student-distilled-scratch", "student-scratch"],
    ]


def test_a_build_that_went_wrong_is_tried_again(session, monkeypatch):
    calls = []

    def break_down(*arguments):
        calls.append(arguments)
        raise WorkersError("gone")

    monkeypatch.setattr(session_module, "build_missing", break_down)
    for _ in range(2):
        with pytest.raises(WorkersError):
            build(session, "q2-reproduced")
    assert len(calls) == 2


def test_failures_of_the_wanted_runs_alone_are_forgotten(session, builds):
    plan = session.suite.plan({"teacher-scratch": (0,), "student-scratch": (0,), "backbone": (0,)})
    keys = [plan.keys[model][0] for model in ("teacher-scratch", "backbone", "student-scratch")]
    store = session.suite.store
    for key in keys:
        store.record_failure(key, Failure("name", "message", "traceback"))
    build(session, "q2-reproduced")
    assert all(store.failure(key) for key in keys)
    session = ClaimSession(session.path, session.options)
    session.suite = suite_without_data(store.root)
    build(session, "q2-reproduced", retry_failed=True)
    assert [store.failure(key) is None for key in keys] == [True, True, False]


def test_findings_do_not_depend_on_what_was_built(session, builds):
    fill_for_claims(session.suite)
    build(session, "q2-reproduced")
    assert {id_: found.verdict.value for id_, found in session.findings.items()} == VERDICTS


def test_a_record_holds_verdict_and_estimates_of_the_claims_that_ran(session):
    fill_for_claims(session.suite)
    session.record(["q2-refuted", "q2-published", "q2-teacher-parameters"])
    recorded = {claim.id: claim.recorded for claim in load_claims(session.path).claims}
    assert {id_: records["tiny"].verdict.value for id_, records in recorded.items() if records} == {
        "q2-refuted": "refuted",
        "q2-teacher-parameters": "reproduced",
    }
    (part,) = recorded["q2-refuted"]["tiny"].estimates
    assert (part.mean, part.n) == (-17.95, 2)
    assert recorded["q2-refuted"]["tiny"].numerics == session.conditions.numerics


def test_findings_know_what_was_recorded(session):
    fill_for_claims(session.suite)
    session.record(["q2-refuted"])
    assert session.findings["q2-refuted"].claim.recorded["tiny"].verdict is Verdict.REFUTED
    assert session.findings["q2-reproduced"].claim.recorded == {}


def test_what_others_wrote_meanwhile_stays(session):
    fill_for_claims(session.suite)
    _ = session.findings
    other = Recorded(verdict=Verdict.INCONCLUSIVE)
    added = json.loads(session.path.read_text())["claims"]
    added.append(claim("q2-new", "parameters", models=["student"], equals=3))
    session.path.write_text(json.dumps({"format": 1, "claims": added}))
    save_claims(with_recorded(load_claims(session.path), "default", {"q2-refuted": other}), session.path)
    session.record(["q2-refuted"])
    claims = {claim.id: claim for claim in load_claims(session.path).claims}
    assert {name: record.verdict for name, record in claims["q2-refuted"].recorded.items()} == {
        "default": Verdict.INCONCLUSIVE,
        "tiny": Verdict.REFUTED,
    }
    assert "q2-new" in claims
    assert "q2-new" not in session.findings


def test_a_file_that_cannot_be_written_is_told(session, monkeypatch):
    fill_for_claims(session.suite)

    def refuse(results, path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(session_module, "save_claims", refuse)
    with pytest.raises(ClaimsError, match=r"expected_results\.json: cannot be written \(Permission denied\)"):
        session.record(["q2-refuted"])


def adding_session(tmp_path, minutes=60.0):
    path = tmp_path / "close.json"
    path.write_text(json.dumps({"format": 1, "claims": CLOSE}))
    session = ClaimSession(path, SuiteOptions(OURS, "tiny", tmp_path / "store"))
    session.suite = suite_without_data(tmp_path / "store", until_decided=True, minutes=minutes)
    return session


@pytest.fixture
def made(monkeypatch):
    """What was asked for, call by call; it is made at once."""
    calls = []

    def make(suite, needed, jobs, console):
        calls.append({model: len(seeds) for model, seeds in needed.items()})
        fill(suite, needed, noisy)

    monkeypatch.setattr(session_module, "build_missing", make)
    return calls


def added(session, *ids, jobs=1, retry_failed=False):
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    chosen = [each for each in session.claims if not ids or each.id in ids]
    session.build(chosen, jobs, console, retry_failed=retry_failed)
    return stream.getvalue()


def test_seeds_are_added_for_what_is_not_decided_until_it_is(tmp_path, made):
    session = adding_session(tmp_path)
    told = added(session)
    assert made[0] == dict.fromkeys(["teacher-scratch", "student-scratch", *_CNNS], 2)
    assert made[1] == {"cnn-depthwise": 4, "cnn-ordinary": 4}
    assert all("teacher-scratch" not in call for call in made[1:])
    findings = session.findings
    assert findings["q4-close"].verdict is Verdict.REPRODUCED
    assert len(findings["q4-close"].runs["cnn-depthwise"]) == max(call["cnn-depthwise"] for call in made[1:])
    assert [len(runs) for runs in findings["q2-decided"].runs.values()] == [2, 2]
    assert "q4-close to 4" in told


_CNNS = ("cnn-depthwise", "cnn-ordinary", "cnn-group")


def test_a_run_that_fails_keeps_its_claim_undecided_and_ends_the_session(tmp_path, monkeypatch):
    session, calls = adding_session(tmp_path), []

    def make(suite, needed, jobs, console):
        calls.append(needed)
        fill(suite, {model: [seed for seed in seeds if seed != 3] for model, seeds in needed.items()}, noisy)

    monkeypatch.setattr(session_module, "build_missing", make)
    added(session)
    assert len(calls) == 2
    assert session.findings["q4-close"].verdict is Verdict.INCONCLUSIVE


def test_a_failure_of_added_seeds_is_forgotten_where_failed_runs_are_tried_again(tmp_path, made):
    session = adding_session(tmp_path, minutes=0.0)
    added(session)
    (key,) = session.suite.plan({"cnn-depthwise": (3,)}).keys["cnn-depthwise"]
    for retry_failed in (False, True):
        session.suite.store.record_failure(key, Failure("cnn-depthwise (seed 3)", "too hot", "Traceback"))
        added(adding_session(tmp_path, minutes=0.0), retry_failed=retry_failed)
        assert (session.suite.store.failure(key) is None) == retry_failed


def test_claims_that_are_not_selected_get_no_seeds(tmp_path, made):
    added(adding_session(tmp_path), "q2-decided")
    assert made == [{"teacher-scratch": 2, "student-scratch": 2}]


def test_without_time_no_seeds_are_added_and_it_is_told(tmp_path, made):
    session = adding_session(tmp_path, minutes=0.0)
    told = added(session)
    assert len(made) == 1
    assert "no time left for any (q4-close" in told
    assert session.findings["q4-close"].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("minutes", [0.1, 0.2, 0.3, 0.5, 1.0])
def test_a_second_session_adds_nothing_to_what_the_first_has_added(tmp_path, made, minutes):
    added(adding_session(tmp_path, minutes))
    first = list(made)
    added(adding_session(tmp_path, minutes))
    assert made == [*first, first[0]]


def test_the_plan_tells_what_more_seeds_would_decide_and_when(tmp_path, made):
    session = adding_session(tmp_path, minutes=0.0)
    assert session.open_claims(session.claims, 1) is None
    added(session)
    found = session.open_claims(session.claims, 1)
    assert found.in_time() == dict.fromkeys(found.in_time(), False)
    assert "q4-close" in found.in_time()
    plenty = replace(found, seconds_left=1e6)
    assert plenty.in_time() == dict.fromkeys(found.in_time(), True)
    without = ClaimSession(session.path, SuiteOptions(OURS, "tiny", tmp_path / "store"))
    without.suite = suite_without_data(tmp_path / "store")
    assert without.open_claims(without.claims, 1) is None
