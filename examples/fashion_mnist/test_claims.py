import pytest


@pytest.mark.claims
def test_claim(finding, settle):
    settle(finding)
