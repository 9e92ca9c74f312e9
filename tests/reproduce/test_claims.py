"""Every claim of the report is one test: one function for each kind of claim, its numbers in expected_results.json.

Before the first test the runs that the selected claims need are made, unless the store has them. A finding is a claim
with its verdict; `settle` ends the test with the outcome that the verdict has beside the one that is recorded.
"""

import pytest

pytestmark = pytest.mark.reproduce


@pytest.mark.claims("control")
def test_controls(finding, settle):
    """Over seeds, paired: what is surely there is seen, and what is surely not there is not."""
    settle(finding)


@pytest.mark.claims("parameters")
def test_parameter_counts(finding, settle):
    """Exact: each model has as many parameters as is said, or within the limits."""
    settle(finding)


@pytest.mark.claims("size")
def test_size_orders(finding, settle):
    """Exact: the ratio of two models' parameters, bytes or multiply-accumulates lies within the limits."""
    settle(finding)


@pytest.mark.claims("accuracy")
def test_accuracy_bounds(finding, settle):
    """Over seeds: a measured number lies within the limits, or near the published one."""
    settle(finding)


@pytest.mark.claims("comparison")
def test_comparisons(finding, settle):
    """Over seeds, paired: the difference of two models lies within the limits."""
    settle(finding)


@pytest.mark.claims("curve")
def test_curves(finding, settle):
    """Over seeds, paired: accuracy falls along the curve, or falls ever faster."""
    settle(finding)


def test_every_claim_has_a_test(untested_claims):
    assert untested_claims == []
