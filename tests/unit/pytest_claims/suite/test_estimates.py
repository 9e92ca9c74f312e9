import json
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from our_project import make_profile
from safetensors.numpy import save_file

from experiments.project import REFERENCE_SECONDS
from experiments.recipes import report_recipes
from pytest_claims.datasets.dataset import Dataset, Split, content_hash, save_dataset
from pytest_claims.datasets.size import DataSize
from pytest_claims.keys.numerics import numerics_environment
from pytest_claims.recipes.profile import ProfileRequest
from pytest_claims.recipes.recipe import Architecture, Recipe
from pytest_claims.suite.estimates import Estimator, PastRun, read_past_runs, read_sizes

ENVIRONMENT = numerics_environment("cpu")
SIZES = {"small": DataSize(132, 132, 1024), "usual": DataSize(660, 1980, 1024), "large": DataSize(660, 1980, 4096)}
CATALOG = report_recipes(make_profile("default", ProfileRequest()))
STUDENT = CATALOG["student-scratch"]
TEACHER = CATALOG["teacher-scratch"]

recipes = st.sampled_from(sorted(CATALOG)).map(CATALOG.__getitem__)
seconds = st.floats(0.001, 1e6)


def past(recipe, seconds, data="usual", environment=ENVIRONMENT):
    return PastRun(
        recipe=recipe.canonical(), data=data if recipe.data else None, environment=environment, seconds=seconds
    )


def estimator(*runs, data="usual"):
    return Estimator(runs, SIZES, dict.fromkeys(("target", "source"), SIZES[data]), ENVIRONMENT, REFERENCE_SECONDS)


def with_epochs(recipe, epochs):
    return replace(recipe, budget=replace(recipe.budget, epochs=epochs))


def past_runs(of=recipes):
    return st.lists(st.builds(past, of, seconds, st.sampled_from(sorted(SIZES))), max_size=6)


@settings(max_examples=40, deadline=None)
@given(past_runs(), recipes, st.sampled_from(sorted(SIZES)))
def test_every_recipe_takes_some_time_whatever_is_known(runs, recipe, data):
    assert 0 < estimator(*runs, data=data).seconds(recipe) < 1e15


@settings(max_examples=40, deadline=None)
@given(past_runs(), st.lists(seconds, min_size=1, max_size=5), recipes, st.randoms())
def test_runs_of_the_same_recipe_on_the_same_data_decide_alone_whatever_their_order(others, same, recipe, random):
    exact = [past(recipe, each) for each in same]
    different = [run for run in others if (run.recipe, run.data) != (exact[0].recipe, exact[0].data)]
    runs = [*exact, *different]
    random.shuffle(runs)
    assert estimator(*runs).seconds(recipe) == pytest.approx(median(same), rel=1e-9)


TRAINED = [recipe for recipe in CATALOG.values() if recipe.budget]


@settings(max_examples=40, deadline=None)
@given(
    past_runs(st.sampled_from(TRAINED)),
    st.sampled_from(TRAINED),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_an_estimate_is_proportional_to_the_epochs(runs, recipe, first, second):
    canonical = [with_epochs(recipe, epochs).canonical() for epochs in (first, second)]
    known = estimator(*(run for run in runs if run.recipe not in canonical))
    longer, shorter = (known.seconds(with_epochs(recipe, epochs)) for epochs in (first, second))
    assert longer / shorter == pytest.approx(first / second, rel=1e-9)


@pytest.mark.parametrize("runs", [(), (past(TEACHER, 50.0),), (past(STUDENT, 70.0),)])
def test_an_estimate_grows_with_images_and_pixels_by_hand_count(runs):
    by_data = {data: estimator(*runs, data=data).seconds(STUDENT) for data in SIZES}
    # Three passes for an image that is learned from: forward, and two products backward.
    assert by_data["usual"] / by_data["small"] == pytest.approx((3 * 660 + 1980) / (3 * 132 + 132))
    assert by_data["large"] / by_data["usual"] == pytest.approx(4)


def test_without_training_only_validation_images_count():
    quantized = CATALOG["teacher-finetuned-8bit"]
    known = past(quantized, 6.0, data="small")
    assert estimator(known, data="usual").seconds(quantized) == pytest.approx(6.0 * 1980 / 132)


def test_the_closest_evidence_is_taken():
    narrow = replace(STUDENT, architecture=Architecture("experiments.models.student", (("widths", (8,)),)))
    rate = replace(STUDENT, budget=replace(STUDENT.budget, learning_rate=0.01))
    half = replace(STUDENT, budget=replace(STUDENT.budget, precision="bfloat16"))
    farthest_first = [
        (past(TEACHER, 1000.0), None),
        (past(half, 100.0), 100.0),
        (past(narrow, 60.0), 60.0),
        (past(rate, 50.0), 50.0),
        (past(STUDENT, 10.0, data="small"), 10.0 * (3 * 660 + 1980) / (3 * 132 + 132)),
        (past(STUDENT, 30.0), 30.0),
    ]
    for count, (_, expected) in enumerate(farthest_first, start=1):
        found = estimator(*(run for run, _ in farthest_first[:count])).seconds(STUDENT)
        assert expected is None or found == pytest.approx(expected)


def test_without_anything_alike_the_constants_are_brought_to_the_machines_speed():
    idle = estimator()
    slow = estimator(past(TEACHER, 3 * idle.seconds(TEACHER)))
    for name, recipe in CATALOG.items():
        assert slow.seconds(recipe) == pytest.approx(3 * idle.seconds(recipe)), name


def test_short_runs_hardly_count_for_the_machines_speed():
    idle = estimator()
    tiny = CATALOG["resnet18"]
    known = estimator(past(TEACHER, idle.seconds(TEACHER)), past(tiny, 20 * idle.seconds(tiny)))
    assert known.seconds(STUDENT) == pytest.approx(idle.seconds(STUDENT), rel=0.05)


@pytest.mark.parametrize(
    "foreign",
    [
        past(STUDENT, 5.0, environment={**ENVIRONMENT, "device": "cuda"}),
        past(STUDENT, 5.0, environment={**ENVIRONMENT, "machine": "another"}),
        past(STUDENT, 5.0, environment={**ENVIRONMENT, "cpu": ["abacus"]}),
        past(STUDENT, 5.0, environment={**ENVIRONMENT, "threads": 64}),
        past(STUDENT, 5.0, environment={}),
        past(STUDENT, 5.0, data="forgotten"),
        past(STUDENT, 5.0).model_copy(update={"recipe": {"builder": "experiments.builders.train"}}),
    ],
)
def test_runs_of_another_machine_and_on_forgotten_data_are_no_evidence(foreign):
    assert estimator(foreign).evidence == 0
    assert estimator(foreign).seconds(STUDENT) == estimator().seconds(STUDENT)


def test_another_version_of_torch_is_evidence():
    older = past(STUDENT, 5.0, environment={**ENVIRONMENT, "torch": "1.0"})
    assert (estimator(older).evidence, estimator(older).seconds(STUDENT)) == (1, pytest.approx(5.0))


def test_the_constants_are_those_of_an_epoch_on_the_usual_data():
    constant = REFERENCE_SECONDS[STUDENT.builder, STUDENT.architecture.module]
    assert estimator(data="usual").seconds(STUDENT) == pytest.approx(STUDENT.budget.epochs * constant)


def test_a_resampled_folder_has_the_size_of_its_file():
    resampled = past(STUDENT, 5.0, data="usual:3")
    assert (estimator(resampled).evidence, estimator(resampled).seconds(STUDENT)) == (1, pytest.approx(5.0))


def test_the_constants_are_of_our_recipes_under_the_default_profile():
    known = {(recipe.builder, recipe.architecture.module) for recipe in CATALOG.values() if recipe.architecture}
    backbone_of_others = ("experiments.builders.import_weights", "experiments.models.resnet18")
    assert REFERENCE_SECONDS.keys() - known == {backbone_of_others}


def test_a_project_without_constants_has_the_same_time_for_all_of_a_kind():
    bare = Estimator([], SIZES, dict.fromkeys(("target", "source"), SIZES["usual"]), ENVIRONMENT)
    teacher = with_epochs(TEACHER, STUDENT.budget.epochs)
    assert bare.seconds(teacher) == pytest.approx(bare.seconds(STUDENT))


def test_what_has_no_constant_still_takes_time():
    other = Recipe("hen.hatch", Architecture("hen.egg"), "target", STUDENT.budget)
    assert estimator().seconds(other) > 0
    assert estimator().seconds(with_epochs(other, 2 * STUDENT.budget.epochs)) == pytest.approx(
        2 * estimator().seconds(other)
    )


def manifest(**changed):
    provenance = {"recipe": STUDENT.canonical(), "data": "usual", "environment": ENVIRONMENT, "seconds": 7.0, "seed": 3}
    return json.dumps({"format": 1, "provenance": {**provenance, **changed}})


def write(store, name, text):
    (store / "runs" / name).mkdir(parents=True)
    (store / "runs" / name / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_whole_manifests_are_read_and_others_left_out(tmp_path):
    write(tmp_path, "a", manifest())
    write(tmp_path, "b", manifest(seconds=9.0))
    bad = {
        "truncated": manifest()[:-3],
        "empty": "",
        "binary": b"\xff\x00",
        "list": "[]",
        "negative": manifest(seconds=-1.0),
        "nan": manifest(seconds=float("nan")),
        "infinite": manifest(seconds=float("inf")),
        "text": manifest(seconds="long"),
        "no-recipe": manifest(recipe=None),
        ".partial-c": manifest(seconds=99.0),
    }
    for name, text in bad.items():
        write(tmp_path, name, text)
    (tmp_path / "runs" / "no-manifest").mkdir()
    (tmp_path / "runs" / "file").touch()
    found = read_past_runs(tmp_path)
    assert sorted(run.seconds for run in found) == [7.0, 9.0]
    assert estimator(*found).seconds(STUDENT) == pytest.approx(8.0)


@pytest.mark.parametrize("epochs", [0, -3, 10**400, 1.5, "2"])
def test_impossible_epochs_are_no_evidence(tmp_path, epochs):
    recipe = STUDENT.canonical()
    write(tmp_path, "a", manifest(recipe={**recipe, "budget": {**recipe["budget"], "epochs": epochs}}))
    known = estimator(*read_past_runs(tmp_path))
    assert (known.evidence, known.seconds(STUDENT)) == (0, estimator().seconds(STUDENT))


def test_an_empty_store_has_no_past(tmp_path):
    assert read_past_runs(tmp_path / "none") == []
    assert read_sizes(tmp_path / "none") == {}


def test_sizes_are_known_by_identity_and_other_files_left_out(tmp_path):
    def split(count):
        return Split(np.zeros((count, 8, 6, 3), np.uint8), np.zeros(count, np.int64))

    dataset = Dataset(("only",), split(5), split(3))
    save_dataset(dataset, tmp_path / "images.safetensors")
    save_file({"weight": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00" * 20)
    assert read_sizes(tmp_path) == {content_hash(dataset): DataSize(5, 3, 48)}
