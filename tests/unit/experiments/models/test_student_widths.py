from fractions import Fraction

import pytest

from experiments.models.student_widths import PRUNED_BLOCKS, WIDTHS, pruned_widths
from experiments.recipes import RATES, STEPS


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("step", STEPS)
def test_only_pruned_blocks_shrink_and_round_down_once(rate, step):
    widths = pruned_widths(rate, step)
    exact = Fraction(str(rate)) ** step
    for block, (before, after) in enumerate(zip(WIDTHS, widths, strict=True)):
        assert after == (int(before * exact) if block in PRUNED_BLOCKS else before)


def test_step_0_is_the_student():
    assert pruned_widths(0.95, 0) == WIDTHS


def test_rounding_down_at_every_step_would_be_other_widths():
    iterated = WIDTHS[-1]
    for _ in STEPS:
        iterated = int(iterated * 0.9)
    assert pruned_widths(0.9, len(STEPS))[PRUNED_BLOCKS[-1]] != iterated
