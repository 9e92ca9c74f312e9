"""What a project tells of its claims: the module that pytest's setting `claims_recipes` names.

Its functions with `@recipe` and `@measure` are taken as they are; see `recipes.function`. Its profiles are the tables
`[tool.claims.profiles.<name>]` of `pyproject.toml`; see `recipes.profile_tables`. What these can't say, the module may
have under these names:

    PROFILES           profiles by name: functions that make one from a `ProfileRequest`
    recipes            function that gives, for a profile and a request, the `Catalog` of all recipes
    DATA               names of the data that profiles are measured on and claims are about
    MEASURES           `Measure`s of numbers that recipes add to their measurements
    PLOTS              `Plot`s of results beside the ones that are drawn anyway
    REFERENCE_SECONDS  rough seconds by (builder, architecture's module), for estimates before there is evidence
"""

import shlex
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_claims.recipes.catalog import Catalog
from pytest_claims.recipes.function import FunctionMeasure, MeasureFunction, RecipeFunction, catalog_of
from pytest_claims.recipes.measure import BUILT_IN, Measure
from pytest_claims.recipes.profile import Profile, ProfileError, ProfileMaker, ProfileRequest
from pytest_claims.recipes.profile_tables import profiles_in

if TYPE_CHECKING:
    from pytest_claims.report.conditions import Plot


RecipeMaker = Callable[[Profile, ProfileRequest], Catalog]
"""Gives all recipes of a profile."""


class ProjectError(ValueError):
    """The project's module cannot be used; the message names it and what would be right."""


@dataclass(frozen=True)
class ProjectPlace:
    """Where a project's code is; the same in every process of a session.

    Attributes:
        module: Dotted name of the module.
        paths: Folders that modules of the project are imported from.
    """

    module: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Project:
    """What the module holds; see above.

    Attributes:
        place: Where its code is.
        profiles: By name.
        recipes: Gives the catalog of a profile.
        data: Names that claims may use.
        measures: All that are known, by name.
        plots: Beside the ones that are drawn anyway.
        reference_seconds: For estimates.
    """

    place: ProjectPlace
    profiles: Mapping[str, ProfileMaker]
    recipes: RecipeMaker
    data: tuple[str, ...]
    measures: Mapping[str, Measure]
    plots: tuple["Plot", ...]
    reference_seconds: Mapping[tuple[str, str], float]

    @property
    def measure_functions(self) -> dict[str, MeasureFunction]:
        """The functions of measures that are functions, by name."""
        own = [measure for measure in self.measures.values() if isinstance(measure, FunctionMeasure)]
        return {measure.name: measure.function for measure in own if measure.function}

    def profile(self, name: str, request: ProfileRequest) -> Profile:
        """Make the profile of a name.

        Raises:
            ProfileError: There is none of this name, it needs an option that is missing, or has no use for one.
        """
        if name not in self.profiles:
            raise ProfileError(f"--profile {name}: there is none of this name; choose from {', '.join(self.profiles)}")
        return self.profiles[name](request)


def find_project(module: str, folders: Sequence[Path]) -> ProjectPlace:
    """Return where a module and what it imports of the project is.

    Args:
        module: Dotted name.
        folders: Where the project's modules are looked for first; then where Python finds the module.

    Raises:
        ProjectError: There is none, or only among installed packages.
    """
    top = module.partition(".")[0]
    if not any((folder / top).is_dir() or (folder / f"{top}.py").is_file() for folder in folders):
        spec = find_spec(top)
        where = (
            [Path(place).parent for place in (spec.submodule_search_locations or [spec.origin or ""])] if spec else []
        )
        installed = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
        if not where or where[0] in installed:
            state = "is installed among other packages" if where else "cannot be found"
            raise ProjectError(f"claims_recipes: {module} {state}, should be a module of the project in {folders[0]}")
        folders = [*folders, where[0]]
    return ProjectPlace(module, tuple(dict.fromkeys(folder.resolve() for folder in folders)))


def place_in(folder: Path) -> ProjectPlace:
    """Return where the recipes of the project in a folder are, as its `pyproject.toml` says.

    Raises:
        ProjectError: There is no such file, or it does not tell.
    """
    path = folder / "pyproject.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
        module, paths = str(settings["claims_recipes"]), settings.get("pythonpath", ())
        paths = shlex.split(paths) if isinstance(paths, str) else list(map(str, paths))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProjectError(f"{path}: has no claims_recipes below [tool.pytest.ini_options] ({error!r})") from error
    return find_project(module, [folder, *(folder / each for each in paths)])


@cache
def load_project(place: ProjectPlace) -> Project:
    """Import a project's module, and take what it tells.

    Raises:
        ProjectError: It cannot be imported, or lacks profiles or recipes.
    """
    for path in reversed(place.paths):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    try:
        module = import_module(place.module)
    except Exception as error:  # a user's module raises whatever it does
        raise ProjectError(
            f"claims_recipes: {place.module} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    profiles = getattr(module, "PROFILES", None) or profiles_in(place.paths[0])
    if not profiles:
        raise ProjectError(
            f"{place.paths[0] / 'pyproject.toml'}: has no profile, should have a table [tool.claims.profiles.default]"
        )
    values = [value for _, value in sorted(vars(module).items())]
    measures = [*BUILT_IN, *getattr(module, "MEASURES", ()), *(v for v in values if isinstance(v, FunctionMeasure))]
    return Project(
        place,
        profiles,
        getattr(module, "recipes", None) or _recipes_of(values),
        tuple(getattr(module, "DATA", ())),
        {measure.name: measure for measure in measures},
        tuple(getattr(module, "PLOTS", ())),
        getattr(module, "REFERENCE_SECONDS", {}),
    )


def _recipes_of(values: Sequence[object]) -> RecipeMaker:
    functions = [value for value in values if isinstance(value, RecipeFunction)]
    measures = [value for value in values if isinstance(value, FunctionMeasure)]

    def recipes(profile: Profile, request: ProfileRequest) -> Catalog:
        try:
            return catalog_of(functions, measures)
        except ValueError as error:
            raise ProjectError(str(error)) from error

    return recipes
