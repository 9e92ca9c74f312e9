import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import flat_folder
from our_project import OURS

from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.keys.numerics import numerics_environment
from pytest_claims.recipes.profile import ProfileError
from pytest_claims.recipes.project import ProjectPlace
from pytest_claims.suite.planning import make_plan
from pytest_claims.suite.suite import Suite, SuiteOptions

paths = st.text().map(Path)
options = st.builds(
    SuiteOptions,
    project=st.builds(ProjectPlace, st.text(), st.lists(paths).map(tuple)),
    profile=st.text(),
    store=paths,
    seeds=st.none() | st.lists(st.integers()).map(tuple),
    device=st.text(),
    data_root=st.none() | paths,
    skip_bad_images=st.booleans(),
    pretrained_weights=st.none() | paths,
    runs_per_gpu=st.integers(),
)


@settings(max_examples=50, deadline=None)
@given(options)
def test_options_come_back_from_one_line_of_ascii(chosen):
    text = chosen.to_json()
    assert SuiteOptions.from_json(text) == chosen
    assert text.isascii()
    assert "\n" not in text
    assert isinstance(json.loads(text), dict)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose images are made once for this module."""
    return tmp_path_factory.mktemp("store")


def test_the_profiles_seeds_can_be_replaced(tmp_path):
    assert (
        Suite(SuiteOptions(OURS, "tiny", tmp_path)).seeds == Suite(SuiteOptions(OURS, "tiny", tmp_path)).profile.seeds
    )
    assert Suite(SuiteOptions(OURS, "tiny", tmp_path, seeds=(7,))).seeds == (7,)


def test_options_reach_the_profile(tmp_path):
    target = Suite(
        SuiteOptions(OURS, "images", tmp_path, data_root=tmp_path / "images", skip_bad_images=True)
    ).profile.target
    assert (target.root, target.skip_bad_images) == (tmp_path / "images", True)
    with pytest.raises(ProfileError, match="--profile none"):
        Suite(SuiteOptions(OURS, "none", tmp_path))


def test_the_same_options_give_the_same_plan(store):
    first, second = (Suite(SuiteOptions(OURS, "tiny", store)).plan({"student-scratch": [0, 1]}) for _ in range(2))
    assert first == second
    assert len(first.runs) == 2


def test_the_plan_rests_on_data_and_environment(store):
    suite = Suite(SuiteOptions(OURS, "tiny", store))
    wanted = {"teacher-finetuned": [0, 1]}

    assert suite.plan(wanted) == make_plan(
        suite.catalog, wanted, suite.data_identity, numerics_environment("cpu"), suite.estimator.seconds, OURS.paths
    )
    assert len(suite.data("target", 0).load().classes) == suite.profile.target.classes


def test_each_seed_has_its_own_images_of_the_same_classes(store):
    suite = Suite(SuiteOptions(OURS, "tiny", store))
    first, second = (suite.data("target", seed).load() for seed in (0, 1))
    assert first.classes == second.classes
    for split in ("training", "validation"):
        images, others = (getattr(each, split) for each in (first, second))
        assert images.labels.tolist() == others.labels.tolist()
        assert not any((image == other).all() for image, other in zip(images.images, others.images, strict=True))


def test_effort_is_estimated_from_the_runs_of_the_store_for_this_data(store):
    suite = Suite(SuiteOptions(OURS, "tiny", store))
    plan = suite.plan({"teacher-scratch": [0]})
    (planned,) = plan.runs.values()
    provenance = {
        "recipe": planned.run.recipe.canonical(),
        "data": suite.data_identity("target", 0),
        "environment": numerics_environment("cpu"),
        "seconds": 77.5,
    }
    suite.store.save("e" * 64, lambda path: path.write_bytes(b"w"), {"accuracy": 9.0}, "", provenance)
    later = Suite(SuiteOptions(OURS, "tiny", store))
    assert later.estimator.evidence == 1
    assert [run.effort for run in later.plan({"teacher-scratch": [0, 1]}).runs.values()] == [pytest.approx(77.5)] * 2
    # Quick trains 6 epochs on 60 images a class and has 80 to validate on; tiny has 1, 12 and 12. Backward costs twice.
    (quick,) = Suite(SuiteOptions(OURS, "quick", store)).plan({"teacher-scratch": [0]}).runs.values()
    assert quick.effort == pytest.approx(6 * (3 * 60 + 80) / (3 * 12 + 12) * 77.5)


def test_stored_are_the_finished_runs_of_the_plan(store):
    suite = Suite(SuiteOptions(OURS, "tiny", store))
    plan = suite.plan({"student-scratch": [0, 1]})
    first, _ = plan.keys["student-scratch"]
    assert suite.stored(plan) == {}
    run = suite.store.save(first, lambda path: path.write_bytes(b"w"), {"accuracy": 9.0}, "", {})
    suite.store.save("0" * 64, lambda path: path.write_bytes(b"w"), {"accuracy": 9.0}, "", {})
    assert suite.stored(plan) == {first: run}
    run.weights.write_bytes(b"v")
    assert suite.stored(plan) == {}
    assert len(suite.warnings) == 1
    assert first in suite.warnings[0]


def test_published_numbers_are_judged_on_all_of_food11_alone(tmp_path):
    root = flat_folder(tmp_path / "food", validation=["0_0.png", "1_0.png", "1_1.png"])
    options = SuiteOptions(OURS, "food11", tmp_path / "store", data_root=root, skip_bad_images=True)
    with pytest.raises(DatasetError, match=r"food: has 5 images, should have 9,866 in training/ and 3,430 in"):
        Suite(options).data("target", 0)


def test_the_step_of_an_accuracy_is_one_validation_image(store):
    suite = Suite(SuiteOptions(OURS, "tiny", store))
    assert suite.percent_of_an_image == 100 / (11 * 12)
