"""The widest network within a budget of parameters.

Example:
    width = width_for_budget(lambda width: parameter_count(build(width)), 250_000)
"""

from collections.abc import Callable


def width_for_budget(
    parameter_count: Callable[[int], int], budget: int, *, at_least: int = 1, at_most: int = 1 << 16
) -> int:
    """Find the largest width whose parameter count is not above a budget.

    Args:
        parameter_count: Count for a width; never falls as the width grows. It is asked for no width
            above twice the one returned, so it may build the model.
        budget: Parameters.
        at_least: Smallest width to consider, from 1.
        at_most: Largest width to consider.

    Raises:
        ValueError: If the bounds are not in order, or even the smallest width is above the budget.
    """
    if not 1 <= at_least <= at_most:
        raise ValueError(f"widths from {at_least} to {at_most}: they must be in order and start from 1")
    smallest = parameter_count(at_least)
    if smallest > budget:
        raise ValueError(f"width {at_least} needs {smallest} parameters, above the budget of {budget}")
    fits, fails = at_least, min(2 * at_least, at_most + 1)
    while fails <= at_most and parameter_count(fails) <= budget:
        fits, fails = fails, min(2 * fails, at_most + 1)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if parameter_count(middle) <= budget else (fits, middle)
    return fits
