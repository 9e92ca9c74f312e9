import pytest
from claim_entries import claim

from experiments.claims import quantities
from experiments.report.claim_text import describe, part_names


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("parameters", {"equals": 256779}, "256,779"),
        ("parameters", {"equals": 11182155}, "11,182,155"),
        ("parameters", {"equals": ..., "at_most": 299999}, "<= 299,999"),
        ("parameters", {"equals": ..., "at_least": 2, "at_most": 4}, "2 to 4"),
        ("size", {}, ">= 3.9 times"),
        ("size", {"ratio_at_least": 0.95, "ratio_at_most": 1.05}, "0.95 to 1.05 times"),
        ("size", {"ratio_at_least": ..., "ratio_above": 1}, "> 1 times"),
        ("accuracy", {}, "88.41 +- 1.2"),
        ("accuracy", {"published": 79.79, "tolerance": 0.8}, "79.79 +- 0.8"),
        ("accuracy", {"published": ..., "tolerance": ..., "at_least": 99}, ">= 99"),
        ("comparison", {}, "<= 0.5 points"),
        ("comparison", {"at_most": ..., "at_least": 0}, ">= 0 points"),
        ("comparison", {"at_most": ..., "above": 0}, "> 0 points"),
        ("comparison", {"at_least": -0.5}, "-0.5 to 0.5 points"),
        ("curve", {}, "each step <= 0.5 points"),
        ("curve", {"shape": "accelerating", "margin": 0}, "the last step costs >= 0 points more than the first"),
    ],
)
def test_what_is_expected_is_told_in_the_unit_of_the_kind(kind, changes, expected):
    assert describe(claim(kind, **changes)) == expected


@pytest.mark.parametrize(
    ("kind", "changes", "names"),
    [
        ("parameters", {}, ("a", "b")),
        ("size", {}, ("a / b",)),
        ("accuracy", {}, ("a",)),
        ("comparison", {}, ("a - b", "c - b")),
        ("curve", {}, ("b - a", "c - b")),
        ("curve", {"shape": "accelerating"}, ("(b - a) - (c - b)",)),
    ],
)
def test_parts_are_named_in_the_order_of_the_quantities(kind, changes, names):
    assert part_names(claim(kind, **changes)) == names


def test_every_claim_has_a_name_for_each_part_and_says_what_it_expects(claims):
    for one in claims:
        parts = quantities(one, lambda model, _: [50.0 + len(model), 51.0])
        assert len(part_names(one)) == len(parts)
        assert describe(one)
