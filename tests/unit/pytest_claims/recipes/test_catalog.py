from dataclasses import replace

import pytest

from pytest_claims.recipes.catalog import Catalog, Run
from pytest_claims.recipes.recipe import Architecture, Recipe

BACKBONE = Recipe("experiments.builders.train", Architecture("experiments.models.resnet18"), "source", shared=True)
TEACHER = Recipe(
    "experiments.builders.train",
    Architecture("experiments.models.resnet18"),
    "target",
    parents=(("initial", BACKBONE),),
)
STUDENT = Recipe(
    "experiments.builders.distill",
    Architecture("experiments.models.student"),
    "target",
    parents=(("teacher", TEACHER),),
)
RECIPES = {"backbone": BACKBONE, "teacher": TEACHER, "student": STUDENT}


def test_is_a_mapping_in_the_order_given():
    catalog = Catalog(RECIPES)
    assert list(catalog.items()) == list(RECIPES.items())
    assert len(catalog) == 3
    assert "student" in catalog
    assert "absent" not in catalog


def test_later_changes_of_the_given_mapping_do_not_reach_it():
    given = dict(RECIPES)
    catalog = Catalog(given)
    given.clear()
    assert len(catalog) == 3


def test_a_run_has_its_seed_and_a_shared_one_always_0():
    catalog = Catalog(RECIPES)
    assert catalog.run("student", 3) == Run("student", STUDENT, 3)
    assert catalog.run("backbone", 3) == Run("backbone", BACKBONE, 0)
    assert catalog.run("student", 3).title == "student (seed 3)"
    assert catalog.run("backbone", 3).title == "backbone (shared)"


def test_parents_have_the_seed_of_the_child():
    catalog = Catalog(RECIPES)
    student = catalog.run("student", 4)
    teacher = catalog.run("teacher", 4)
    assert catalog.parent_runs(student) == {"teacher": teacher}
    assert catalog.parent_runs(teacher) == {"initial": catalog.run("backbone", 0)}
    assert catalog.parent_runs(catalog.run("backbone", 4)) == {}


def test_of_two_names_for_one_recipe_a_parent_has_the_first():
    catalog = Catalog({"backbone": BACKBONE, "again": TEACHER, **RECIPES})
    assert catalog.parent_runs(catalog.run("student", 1))["teacher"].name == "again"


def test_a_parent_outside_the_catalog_is_named():
    with pytest.raises(ValueError, match="recipe 'student': its teacher is not in the catalog"):
        Catalog({"backbone": BACKBONE, "student": STUDENT})


def test_an_unknown_name_is_told():
    with pytest.raises(KeyError, match="studnet"):
        Catalog(RECIPES).run("studnet", 0)


@pytest.mark.parametrize("name", ["", "Student", "a b", "a/b", "../a", ".a", "-a", "a\n", "ä"])
def test_a_name_that_would_not_do_in_a_file_or_an_option_is_refused(name):
    with pytest.raises(ValueError, match=r"use lower-case letters, digits, '-', '_' and '\.'"):
        Catalog({name: BACKBONE}).run(name, 0)


@pytest.mark.parametrize("name", ["student", "pruned-0.95-1-bn", "8bit", "lenet_half"])
def test_a_good_name_is_taken(name):
    assert Catalog({name: BACKBONE}).run(name, 0).name == name


def test_a_curve_joins_its_models_from_the_parent_of_the_first_on():
    def step(parent, curve="fast"):
        return Recipe(
            "experiments.builders.slim", parents=(("original", parent),), curve=curve, settings=(("of", curve),)
        )

    first, slow = step(TEACHER), step(TEACHER, "slow")
    second = replace(step(first), settings=(("of", "second"),))
    catalog = Catalog({**RECIPES, "slow-1": slow, "fast-1": first, "fast-2": second})
    assert catalog.curves == (("teacher", "slow-1"), ("teacher", "fast-1", "fast-2"))
    assert Catalog(RECIPES).curves == ()


def test_a_curve_may_begin_with_a_model_that_has_no_parent():
    first = replace(BACKBONE, curve="only")
    second = Recipe("experiments.builders.slim", parents=(("original", first),), curve="only")
    assert Catalog({"a": first, "b": second}).curves == (("a", "b"),)
