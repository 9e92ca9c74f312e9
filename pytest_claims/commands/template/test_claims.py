"""Every claim is a test: before the first, the runs that the claims need are made; each test then judges one."""

import pytest


@pytest.mark.claims
def test_claim(finding, settle):
    settle(finding)
