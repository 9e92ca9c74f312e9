from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.pruning.share import share_of


@given(st.integers(0, 9999), st.integers(0, 10**9))
@settings(deadline=None, max_examples=200)
def test_a_share_is_that_of_the_decimal_number_written(digits, count):
    share = Decimal(digits).scaleb(-4)
    exact = int(share * count)
    assert share_of(count, float(share)) == exact
    assert share_of(count, 1 - float(1 - share)) == exact


@given(st.floats(0, 1), st.integers(0, 1000))
@settings(deadline=None, max_examples=200)
def test_no_share_is_off_by_more_than_rounding(share, count):
    assert share * count - 1 - 1e-6 <= share_of(count, share) <= share * count + 1e-6


@pytest.mark.parametrize(("share", "count", "part"), [(0.29, 100, 29), (0.57, 100, 57), (1 - 0.9, 10, 1), (1, 7, 7)])
def test_binary_floats_lose_none(share, count, part):
    assert share_of(count, share) == part
