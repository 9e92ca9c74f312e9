import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.claims.operands import check_distinct, check_either, check_pairs

fast = settings(deadline=None, max_examples=50)
models = st.sampled_from("abc")


def refusal(check, *arguments):
    try:
        check(*arguments)
    except ValueError as error:
        return str(error)
    return None


@fast
@given(st.lists(models, max_size=4))
def test_models_are_refused_where_one_repeats(names):
    refused = refusal(check_distinct, names)
    assert (refused is None) == (len(set(names)) == len(names))
    if refused:
        named = re.search("names '(.)' twice", refused)[1]
        assert names.count(named) > 1


@fast
@given(st.lists(st.tuples(models, models), max_size=3))
def test_pairs_are_refused_where_one_repeats_or_has_one_model(pairs):
    refused = refusal(check_pairs, pairs)
    assert (refused is None) == (len(set(pairs)) == len(pairs) and all(a != b for a, b in pairs))


def test_a_pair_turned_round_is_another_pair():
    check_pairs([("a", "b"), ("b", "a")])


@fast
@given(*[st.none() | st.integers(-2, 2).map(float)] * 3)
def test_a_value_stands_alone_and_bounds_do_not_cross(value, lower, upper):
    alone = value is not None and lower is None and upper is None
    bounded = value is None and (lower is None) != (upper is None)
    ordered = value is None and lower is not None and upper is not None and upper - lower > 0
    refused = refusal(check_either, "equals", value, "low", lower, "high", upper)
    assert (refused is None) == (alone or bounded or ordered)


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ((None, None, None), "nothing is asked: give 'equals', or 'low' or 'high'"),
        ((0.0, 0.0, None), "'equals' stands beside 'low' or 'high'; should be one way or the other"),
        ((None, 2.5, 2.0), "'low' is 2.5, should be below 'high', 2"),
    ],
)
def test_the_fields_are_named(given_, reason):
    value, lower, upper = given_
    assert refusal(check_either, "equals", value, "low", lower, "high", upper) == reason
