import json
from dataclasses import fields, is_dataclass, replace

import pytest

from pytest_claims.recipes.recipe import Architecture, Augmentation, Budget, Recipe, in_family

BUDGET = Budget(14, 64, "sgd", 0.05, 5e-4, "cosine", "float32", Augmentation(0.06, 15.0, True, 12))
RECIPE = Recipe(
    "experiments.builders.distill",
    Architecture("experiments.models.student", (("widths", (16, 32)), ("extra", "hidden"))),
    "target",
    BUDGET,
    (("temperature", 4.0), ("bits", 8)),
)


def variants(value, path=""):
    """Everything that differs in a single place that counts, with the name of the place."""
    if is_dataclass(value):
        for field in (each for each in fields(value) if each.compare):
            for name, variant in variants(getattr(value, field.name), f"{path}.{field.name}"):
                yield name, replace(value, **{field.name: variant})
    elif isinstance(value, tuple):
        yield path, value[:-1]
        for index, item in enumerate(value):
            for name, variant in variants(item, f"{path}[{index}]"):
                yield name, (*value[:index], variant, *value[index + 1 :])
    elif isinstance(value, bool):
        yield path, not value
    else:
        yield path, value + ("x" if isinstance(value, str) else 1)


VARIANTS = [variant for variant in variants(replace(RECIPE, parents=(("teacher", 0),))) if ".parents" not in variant[0]]


DECIDING = {field.name for field in fields(Recipe) if field.compare}


def text(recipe):
    return json.dumps(recipe.canonical(), sort_keys=True, allow_nan=False)


def test_canonical_is_json_without_loss():
    canonical = RECIPE.canonical()
    assert json.loads(text(RECIPE)) == canonical
    assert canonical["budget"]["augmentation"] == {"shift": 0.06, "rotation": 15.0, "flip": True, "views": 12}
    assert canonical["architecture"] == {
        "module": "experiments.models.student",
        "options": [["widths", [16, 32]], ["extra", "hidden"]],
    }


@pytest.mark.parametrize(("place", "variant"), VARIANTS, ids=[place for place, _ in VARIANTS])
def test_any_other_field_is_another_recipe(place, variant):
    assert text(variant) != text(RECIPE)


def test_the_variants_reach_every_field():
    places = {place for place, _ in VARIANTS}
    top = DECIDING - {"parents", "architecture", "budget"}
    assert {place.split(".")[1].partition("[")[0] for place in places} == top | {"architecture", "budget"}
    assert {f".budget.{field.name}" for field in fields(Budget)} - places == {".budget.augmentation"}
    assert {f".budget.augmentation.{field.name}" for field in fields(Augmentation)} <= places


@pytest.mark.parametrize("absent", ["data", "budget"])
def test_what_is_absent_differs_from_what_is_there(absent):
    assert text(replace(RECIPE, **{absent: None})) != text(RECIPE)
    assert replace(RECIPE, **{absent: None}).canonical()[absent] is None


def test_parents_are_left_to_the_key():
    assert text(replace(RECIPE, parents=(("teacher", RECIPE),))) == text(RECIPE)


def test_what_decides_no_byte_makes_no_other_recipe():
    beside = {"code": ("a.b",), "family": "large", "curve": "one", "intermediate": True}
    assert beside.keys() == {field.name for field in fields(Recipe)} - DECIDING
    for name, value in beside.items():
        other = replace(RECIPE, **{name: value})
        assert (other, hash(other), text(other)) == (RECIPE, hash(RECIPE), text(RECIPE))


def test_a_family_is_given_to_all_of_them():
    given = in_family("large", {"a": RECIPE, "b": replace(RECIPE, shared=True)}, intermediate=True)
    assert list(given.items()) == [("a", RECIPE), ("b", replace(RECIPE, shared=True))]
    assert {(recipe.family, recipe.intermediate) for recipe in given.values()} == {("large", True)}
