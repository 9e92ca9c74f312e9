import pytest
from fake_runs import claim, fill, results, suite_without_data

from pytest_claims.suite.judging import judge_claims
from pytest_claims.suite.more_seeds import next_batch, seconds_missing, seconds_spent, undecided
from pytest_claims.verdicts.looks import Looks

LOOKS = Looks(2)
NOISE = (0.0, 1.0, 0.4, 0.7, 0.1, 0.8, 0.3, 0.9)
"""Of a seed, so that with two nothing is decided that is not far from its edge."""

CLAIMS = [
    claim("q1-decided", "comparison", pairs=[["teacher-scratch", "student-scratch"]], above=-50),
    claim("q2-dear", "comparison", pairs=[["teacher-scratch", "student-scratch"]], above=-2.5),
    claim("q4-cheap", "comparison", pairs=[["cnn-depthwise", "cnn-ordinary"]], above=-2.5),
    claim("q4-never", "comparison", pairs=[["cnn-group", "cnn-ordinary"]], above=0.4999),
]


def accuracy(model, seed):
    noisy = model in ("teacher-scratch", "cnn-depthwise", "cnn-group")
    return {"accuracy": 80.0 + noisy * NOISE[seed % len(NOISE)]}


@pytest.fixture
def suite(tmp_path):
    suite = suite_without_data(tmp_path)
    suite.looks = LOOKS
    models = {model for entry in CLAIMS for pair in entry["pairs"] for model in pair}
    fill(suite, dict.fromkeys(models, (0, 1)), accuracy)
    return suite


def open_claims(suite, entries=CLAIMS):
    return undecided(judge_claims(results(entries).claims, suite), suite, LOOKS)


def test_claims_that_seeds_would_decide_come_cheapest_decision_first(suite):
    found = open_claims(suite)
    assert [each.claim.id for each in found] == ["q4-cheap", "q2-dear"]
    assert [each.next_look for each in found] == [4, 4]
    cheap, dear = found
    assert 0 < seconds_missing([cheap.claim], {cheap.claim.id: 4}, suite) <= cheap.seconds_to_decide
    assert cheap.seconds_to_decide < dear.seconds_to_decide


def test_controls_come_first(suite):
    control = claim("q2-control", "control", pairs=[["teacher-scratch", "student-scratch"]], at_least=-2.5)
    assert [each.claim.id for each in open_claims(suite, [*CLAIMS[2:3], control])] == ["q2-control", "q4-cheap"]


def test_what_is_missing_costs_time_once(suite):
    cheap, dear = (each.claim for each in open_claims(suite))
    alone = seconds_missing([cheap], {cheap.id: 4}, suite)
    assert seconds_missing([cheap], {cheap.id: 2}, suite) == 0
    assert seconds_missing([cheap, dear], {cheap.id: 4, dear.id: 2}, suite) == pytest.approx(alone)
    fill(suite, {"cnn-depthwise": (2, 3)}, accuracy)
    assert 0 < seconds_missing([cheap], {cheap.id: 4}, suite) < alone


def test_time_spent_is_that_of_the_runs_that_claims_are_judged_on(suite):
    claims = results(CLAIMS[2:3]).claims
    assert seconds_spent(claims, suite) == 4.0
    fill(suite, {"cnn-depthwise": (2, 3)}, accuracy)
    assert seconds_spent(claims, suite) == 4.0
    fill(suite, {"cnn-ordinary": (2, 3)}, accuracy)
    assert seconds_spent(claims, suite) == 8.0


def test_a_look_is_gone_for_if_it_is_reached_in_time(suite):
    found = open_claims(suite)
    cheap, dear = found
    assert next_batch(found, suite, 1, 100 * dear.seconds_to_decide) == {"q4-cheap": 4, "q2-dear": 4}
    assert next_batch(found, suite, 1, dear.seconds_to_decide * 0.99) == {"q4-cheap": 4}
    assert next_batch(found, suite, 1, cheap.seconds_to_decide * 0.99) == {}
    assert next_batch(found, suite, 2, cheap.seconds_to_decide * 0.51) == {"q4-cheap": 4}
    assert next_batch(found, suite, 1, -1.0) == {}


def test_little_is_spent_before_claims_are_judged_again(suite):
    cheap, dear = open_claims(suite)
    at_once = next_batch([cheap, dear], suite, 1, dear.seconds_to_decide)
    assert at_once == {"q4-cheap": 4}
