"""Recipes and measures as functions: what a project's module writes with `@recipe` and `@measure`.

    @recipe
    def lenet(run):
        return run.fit(LeNet(run.classes), epochs=5, learning_rate=0.05)


    @recipe
    def lenet_half(run, lenet):
        return run.fit(halve(lenet), epochs=2, learning_rate=0.01)


    @measure(unit="F1", better="more")
    def macro_f1(model, split):
        return f1_score(split.labels, split.outputs(model).argmax(1), average="macro")

A recipe's parents are its arguments after `run`, by their names, as pytest's fixtures are; so what is needed is known
before anything runs. No torch here: it is imported when a run is made.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, overload

from pytest_claims.recipes.catalog import Catalog
from pytest_claims.recipes.measure import Measure
from pytest_claims.recipes.recipe import TARGET, Recipe

if TYPE_CHECKING:
    from torch import nn

    from pytest_claims.training.training import Images

FUNCTION_CODE = "pytest_claims.training.run"
"""The module that makes runs of functions."""

MeasureFunction = Callable[["nn.Module", "Images"], float]


@dataclass(frozen=True)
class RecipeFunction:
    """A function that makes a model.

    Attributes:
        function: Takes a `pytest_claims.training.run.Run` and the models of its parents; returns a model.
        parents: Their names.
        data: Role of the data that the model is trained and measured on; None for a model without data.
        family: What plots group it under.
        shared: Whether one run serves all seeds.
    """

    function: Callable[..., Any]
    parents: tuple[str, ...]
    data: str | None
    family: str
    shared: bool

    @property
    def name(self) -> str:
        """The model's name in claims: the function's."""
        return self.function.__name__


@dataclass(frozen=True)
class FunctionMeasure(Measure):
    """A measure that a function takes of every model with data, on the validation images."""

    function: MeasureFunction | None = None


@overload
def recipe(function: Callable[..., Any], /) -> RecipeFunction: ...
@overload
def recipe(
    *, data: str | None = TARGET, family: str = "", shared: bool = False
) -> Callable[[Callable[..., Any]], RecipeFunction]: ...
def recipe(
    function: Callable[..., Any] | None = None,
    /,
    *,
    data: str | None = TARGET,
    family: str = "",
    shared: bool = False,
) -> RecipeFunction | Callable[[Callable[..., Any]], RecipeFunction]:
    """Make a function a recipe; see the module.

    Args:
        function: Its first argument is the run, the others are models that it is made from.
        data: Role of the data that the model is trained and measured on, a name of the profile's data sets.
        family: What plots group it under.
        shared: Whether one run, with seed 0, serves all seeds.
    """

    def decorate(function: Callable[..., Any]) -> RecipeFunction:
        arguments = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        if not arguments:
            raise TypeError(f"recipe {function.__name__}: takes no argument, should take the run as its first")
        return RecipeFunction(function, tuple(arguments[1:]), data, family, shared)

    return decorate if function is None else decorate(function)


def measure(
    *, unit: str = "", better: Literal["more", "less"] | None = None, decimals: int = 3
) -> Callable[[MeasureFunction], FunctionMeasure]:
    """Make a function a measure of all models with data; see the module.

    Args:
        unit: What follows a number, such as `%`.
        better: Whether more or less is better.
        decimals: Shown of a number.
    """

    def decorate(function: MeasureFunction) -> FunctionMeasure:
        return FunctionMeasure(function.__name__, unit, better=better, decimals=decimals, function=function)

    return decorate


def catalog_of(functions: Iterable[RecipeFunction], measures: Iterable[FunctionMeasure] = ()) -> Catalog:
    """Return the recipes of functions.

    Args:
        functions: Which of them may be made from others.
        measures: Are taken of all models, and so count as their code.

    Raises:
        ValueError: A parent is no recipe, or recipes are made from each other in a circle.
    """
    by_name = {function.name: function for function in functions}
    taken = [f"{measure.function.__module__}:{measure.name}" for measure in measures if measure.function]
    recipes: dict[str, Recipe] = {}
    for name in by_name:
        _add(name, by_name, recipes, ())
    code = (FUNCTION_CODE, *taken)
    return Catalog({name: replace(recipe, code=code) for name, recipe in recipes.items()})


def _add(
    name: str, functions: Mapping[str, RecipeFunction], recipes: dict[str, Recipe], children: tuple[str, ...]
) -> Recipe:
    if name in children:
        raise ValueError(f"recipes are made from each other: {' <- '.join((*children, name))}")
    if name not in functions:
        known = ", ".join(functions)
        raise ValueError(f"recipe {children[-1]}: its argument {name!r} is no recipe, should be one of {known}")
    if name not in recipes:
        function = functions[name]
        parents = tuple((parent, _add(parent, functions, recipes, (*children, name))) for parent in function.parents)
        recipes[name] = Recipe(
            f"{function.function.__module__}:{name}",
            data=function.data,
            parents=parents,
            shared=function.shared,
            family=function.family,
        )
    return recipes[name]
