import pytest
from claim_entries import claim, entry, results
from pydantic import ValidationError

from pytest_claims.recipes.measure import Measure

ACCURACY = Measure("accuracy", "%")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ">= 3 points"),
        ({"should_be": "refuted"}, "not >= 3 points"),
        ({"at_least": ..., "equals": 0.0, "should_be": "not refuted"}, "0 points"),
    ],
)
def test_what_is_expected_is_told_in_points(changes, text):
    assert claim("control", **changes).expectation(ACCURACY) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at_least": ...}, "nothing is asked: give 'equals', or 'at_least' or 'at_most'"),
        ({"equals": 0.0}, "'equals' stands beside"),
        ({"at_least": ..., "equals": 0.0}, "'equals' can't be reproduced"),
        ({"pairs": [["a", "a"]]}, "compares 'a' with itself"),
        ({"should_be": "so"}, "'reproduced', 'refuted' or 'not refuted'"),
    ],
)
def test_a_control_that_says_nothing_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        claim("control", **changes)


def test_what_a_control_guards_is_there():
    judged = entry("comparison", id="q1-y")
    results(entry("control", guards=["question 1"]), judged)
    results(entry("control", guards=["q1-y"]), judged)
    with pytest.raises(ValidationError, match="q1-x: guards 'q1-z', should name a section with claims, or a claim"):
        results(entry("control", guards=["q1-z"]), judged)


def test_a_claim_is_settled_by_a_control_alone():
    results(entry("control"), entry("comparison", id="q1-y", by_design="q1-x"))
    with pytest.raises(ValidationError, match="q1-y: by_design is 'q1-z', should be a control's id"):
        results(entry("control"), entry("comparison", id="q1-y", by_design="q1-z"))
