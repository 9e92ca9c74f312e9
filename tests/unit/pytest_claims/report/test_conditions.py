from pytest_claims.report.conditions import Conditions


def test_title_names_data_profile_and_number_of_seeds():
    assert Conditions("food11", "food-11", (0, 1, 2), "").title == "food-11 images, profile food11, 3 seeds"


def test_title_of_one_seed_is_singular():
    assert Conditions("quick", "fractal", (0,), "").title == "fractal images, profile quick, 1 seed"
