import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_claims.basics.limits import MOST_SEEDS
from pytest_claims.verdicts.looks import ERROR_RATE, Look, Looks

firsts = st.integers(2, 50)


def test_looks_double_the_seeds_and_halve_the_level():
    expected = (Look(5, 0.025), Look(10, 0.0125), Look(20, 0.00625), Look(40, 0.003125))
    assert Looks(5).up_to(79) == expected
    assert [look.confidence for look in expected] == [0.95, 0.975, 0.9875, 0.99375]


@given(firsts)
def test_all_looks_together_spend_no_more_than_the_error_rate(first):
    assert sum(look.level for look in Looks(first).up_to(10**9)) < ERROR_RATE


@given(firsts, st.integers(0, 3000))
def test_a_look_is_reached_with_its_seeds(first, seeds):
    looks = Looks(first)
    every = looks.up_to(10**5)
    passed = [look for look in every if look.seeds <= seeds]
    assert looks.reached(seeds) == (passed[-1] if passed else None)
    assert looks.after(seeds) == next(look for look in every if look.seeds > seeds)
    assert looks.up_to(seeds) == tuple(passed)


def test_there_are_no_looks_beyond_the_most_seeds():
    assert [look.seeds for look in Looks(5).up_to()] == [5, 10, 20, 40, 80, 160, 320, 640]
    assert Looks(MOST_SEEDS + 1).up_to() == ()


@pytest.mark.parametrize("first", [1, 0, -5])
def test_a_first_look_at_one_seed_is_refused(first):
    with pytest.raises(ValueError, match=f"the first look is at {first} seeds, should be at 2 or more"):
        Looks(first)


def test_a_fixed_number_of_seeds_may_spend_it_all():
    assert math.isclose(Look(7).confidence, 0.9)
