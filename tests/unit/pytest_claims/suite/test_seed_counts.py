import pytest
from fake_runs import claim, fill, results, suite_without_data

from pytest_claims.recipes.profile import ProfileError
from pytest_claims.suite.seed_counts import reached
from pytest_claims.verdicts.looks import Looks

CHEAP = claim("q4-cheap", "comparison", pairs=[["cnn-depthwise", "cnn-ordinary"]], above=0)
DEAR = claim("q2-dear", "comparison", pairs=[["teacher-finetuned", "cnn-ordinary"]], above=0)
EXACT = claim("q4-size", "size", measure="macs", pairs=[["cnn-depthwise", "cnn-ordinary"]], ratio_at_most=1)
CLAIMS = results([CHEAP, DEAR, EXACT]).claims


@pytest.fixture
def suite(tmp_path):
    suite = suite_without_data(tmp_path)
    suite.looks = Looks(2)
    return suite


def seeds_of(suite):
    return {id_: len(seeds) for id_, seeds in reached(CLAIMS, suite).items()}


def filled(suite, models, seeds):
    fill(suite, dict.fromkeys(models, range(seeds)), lambda model, seed: {"accuracy": 80.0 + seed, "macs": 5})


def test_seeds_that_are_not_added_are_those_of_the_suite(suite):
    suite.looks = None
    filled(suite, ["cnn-depthwise", "cnn-ordinary"], 8)
    assert seeds_of(suite) == {"q4-cheap": 2, "q2-dear": 2, "q4-size": 2}


@pytest.mark.parametrize(("made", "counted"), [(0, 2), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8)])
def test_a_claim_has_the_seeds_of_the_last_look_whose_runs_are_all_there(suite, made, counted):
    filled(suite, ["cnn-depthwise", "cnn-ordinary"], made)
    assert seeds_of(suite) == {"q4-cheap": counted, "q2-dear": 2, "q4-size": 2}


def test_seeds_are_added_to_the_first_ones(tmp_path):
    with pytest.raises(ProfileError, match=r"--until-decided adds seeds to 0, 1, .* has no use for seeds 0,2"):
        suite_without_data(tmp_path, seeds=(0, 2), until_decided=True)
    with pytest.raises(ProfileError, match="at least two; has no use for seeds 0"):
        suite_without_data(tmp_path, seeds=(0,), until_decided=True)
    assert suite_without_data(tmp_path, seeds=(0, 1, 2), until_decided=True).looks == Looks(3)
