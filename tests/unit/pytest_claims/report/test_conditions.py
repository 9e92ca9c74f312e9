from pytest_claims.report.conditions import Conditions, Outline


def test_title_names_data_profile_and_number_of_seeds():
    assert Conditions("food11", "food-11", (0, 1, 2), "").title == "food-11 images, profile food11, 3 seeds"


def test_title_of_one_seed_is_singular():
    assert Conditions("quick", "fractal", (0,), "").title == "fractal images, profile quick, 1 seed"


def test_sections_come_in_the_reports_order_and_unknown_ones_after_them_each_once():
    outline = Outline(sections={"b": "The second letter", "a": "The first"})
    assert outline.in_order(["x", "a", "c", "b", "a", "x"]) == ["b", "a", "x", "c"]
    assert outline.in_order([]) == []
    assert [outline.section_title(name) for name in ("a", "x")] == ["The first", "x"]


def test_sources_come_in_the_reports_order_and_there_are_none_where_it_has_none():
    outline = Outline(sources={"b": "The second", "a": "The first"})
    assert outline.sources_in_order(["a", "c", "b", "a"]) == ["b", "a", "c"]
    assert Outline().sources_in_order(["a", "b"]) == []


def test_an_outline_that_nobody_gave_holds_nothing():
    assert Conditions("quick", "fractal", (0,), "").outline == Outline()
    assert (Outline().sections, Outline().families, Outline().curves, Outline().plots) == ({}, {}, (), ())
