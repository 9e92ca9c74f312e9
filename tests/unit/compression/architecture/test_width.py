import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.architecture.width import width_for_budget
from compression.cost import parameter_count

properties = settings(deadline=None, max_examples=40)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 200), st.integers(0, 10_000))
@properties
def test_width_for_budget_is_the_largest_that_fits(square, linear, constant, slack):
    def count(width):
        return square * width * width + linear * width + constant

    budget = count(1) + slack
    expected = max(width for width in range(1, 102) if count(width) <= budget)
    assert width_for_budget(count, budget) == expected
    assert width_for_budget(count, budget, at_most=7) == min(expected, 7)


def test_width_for_budget_asks_for_no_width_above_twice_its_answer():
    asked = []

    def count(width):
        asked.append(width)
        return width**2

    assert width_for_budget(count, 10_000) == 100
    assert max(asked) <= 200


def test_width_for_budget_stops_where_the_count_does_not_grow():
    assert width_for_budget(lambda width: 5, 5, at_least=3, at_most=1000) == 1000
    assert width_for_budget(lambda width: width, 10, at_least=10, at_most=10) == 10


def test_width_for_budget_fits_a_real_network(build_student):
    def count(width):
        return parameter_count(build_student((width, 2 * width, 2 * width)))

    width = width_for_budget(count, 20_000)
    assert count(width) <= 20_000 < count(width + 1)


def test_a_budget_below_the_smallest_width_is_an_error():
    with pytest.raises(ValueError, match="width 4 needs 40 parameters, above the budget of 39"):
        width_for_budget(lambda width: 10 * width, 39, at_least=4)


@pytest.mark.parametrize(("least", "most"), [(0, 5), (6, 5)])
def test_width_bounds_out_of_order_are_an_error(least, most):
    with pytest.raises(ValueError, match=f"widths from {least} to {most}"):
        width_for_budget(lambda width: width, 10, at_least=least, at_most=most)
