import subprocess
import sys

import pytest

from pytest_claims import Measure, measure, recipe
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.function import FunctionMeasure, RecipeFunction, catalog_of


@recipe
def first(run):
    raise NotImplementedError


@recipe(family="big", shared=True, data=None)
def second(run, first, width=3):
    raise NotImplementedError


@recipe
def third(run, second, first):
    raise NotImplementedError


@measure(unit="F1", better="more")
def macro_f1(model, split):
    raise NotImplementedError


def test_parents_are_the_arguments_after_the_run_that_have_no_default():
    assert isinstance(second, RecipeFunction)
    assert (first.parents, second.parents, third.parents) == ((), ("first",), ("second", "first"))


def test_a_catalog_has_each_recipe_after_its_parents_whatever_the_order_of_functions():
    catalog = catalog_of([third, second, first], [macro_f1])
    assert list(catalog) == ["first", "second", "third"]
    assert [role for role, _ in catalog["third"].parents] == ["second", "first"]
    assert catalog["second"].family == "big"
    assert catalog["second"].shared
    assert (catalog["first"].data, catalog["second"].data) == ("target", None)
    assert catalog["third"].builder == f"{__name__}:third"
    assert catalog["first"].code == ("pytest_claims.training.run", f"{__name__}:macro_f1")


def test_a_parent_that_is_no_recipe_is_named():
    with pytest.raises(ValueError, match=r"recipe second: its argument 'first' is no recipe, should be one of second"):
        catalog_of([second])


def test_a_circle_is_named():
    @recipe
    def hen(run, egg):
        raise NotImplementedError

    @recipe
    def egg(run, hen):
        raise NotImplementedError

    with pytest.raises(ValueError, match="made from each other: hen <- egg <- hen"):
        catalog_of([hen, egg])


def test_a_recipe_takes_the_run():
    with pytest.raises(TypeError, match="recipe nothing: takes no argument, should take the run as its first"):

        @recipe
        def nothing():
            raise NotImplementedError


def test_a_measure_is_named_as_its_function_and_knows_its_unit():
    assert macro_f1 == FunctionMeasure("macro_f1", "F1", better="more", decimals=3, function=macro_f1.function)
    assert isinstance(macro_f1, Measure)
    assert not macro_f1.exact


def test_writing_recipes_imports_no_torch():
    code = "import sys; from pytest_claims import Augmentation, Measure, measure, recipe; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
