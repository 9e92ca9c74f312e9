import numpy as np
import pytest

from pytest_claims.recipes.recipe import Architecture, Recipe

STUDENT = Architecture("experiments.models.student", (("widths", (4, 4, 8, 12, 10, 9, 8, 8)),))


@pytest.fixture(scope="module")
def sized(run):
    return run(
        Recipe("experiments.builders.initialize", STUDENT, settings=(("classes", 3), ("resolution", 16)), shared=True)
    )


def test_only_sizes_are_measured(sized, student):
    measured = sized.built.measurements
    assert set(measured) == {"parameters", "macs"}
    assert measured == {name: student.built.measurements[name] for name in measured}
    assert sized.built.history == []


def test_the_settings_decide_classes_and_resolution(run, sized):
    larger = run(Recipe("experiments.builders.initialize", STUDENT, settings=(("classes", 5), ("resolution", 32))))
    assert larger.state["10.weight"].shape == (5, 8)
    parameters = larger.built.measurements["parameters"] - sized.built.measurements["parameters"]
    assert parameters == 2 * (8 + 1)
    assert larger.built.measurements["macs"] == 4 * (sized.built.measurements["macs"] - 3 * 8) + 5 * 8


def test_the_file_holds_the_first_weights(sized):
    assert np.all(sized.state["1.1.weight"] == 1)
    assert sized.state["0.0.weight"].std() > 0
