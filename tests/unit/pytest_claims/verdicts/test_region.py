import math

import pytest

from pytest_claims.verdicts.judging import Case, judge, judge_exact
from pytest_claims.verdicts.region import Region, equality_region
from pytest_claims.verdicts.verdict import Verdict


@pytest.mark.parametrize("edges", [(2, 1), (math.nan, 1), (0, math.nan), (-math.inf, math.inf), (math.inf, math.inf)])
def test_a_region_without_sense_is_refused(edges):
    with pytest.raises(ValueError, match="region"):
        Region(*edges)


def test_edges_belong_to_the_region():
    for judged in (judge(Case([[1.0, 1.0, 1.0]], Region(1, 2))), judge_exact([[2.0]], Region(1, 2))):
        assert judged.verdict is Verdict.REPRODUCED


@pytest.mark.parametrize("margin", [0, -0.5, math.nan, math.inf])
def test_a_margin_of_equality_is_a_positive_number(margin):
    with pytest.raises(ValueError, match=f"margin of equality is {margin}, should be a positive number"):
        equality_region(margin)
    with pytest.raises(ValueError, match="margin of equality"):
        Case([[1.0]], Region(lower=0), equality=margin)


def test_the_margin_belongs_to_equality():
    assert equality_region(0.5) == Region(-0.5, 0.5)
