"""Profiles as tables of `pyproject.toml`.

[tool.claims.profiles.default]
data = "fashion-mnist"          # see `datasets.named`; --data-root=FOLDER says where it is, if it is elsewhere
seeds = 5
training_per_class = 500        # all images without it
validation_per_class = 100
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_claims.basics.limits import MOST_SEEDS
from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.datasets.named import DATASETS, named_dataset
from pytest_claims.recipes.profile import Profile, ProfileError, ProfileMaker, ProfileRequest
from pytest_claims.recipes.recipe import TARGET

SETTINGS = "pyproject.toml"
"""The file that holds the tables, in the first of a project's folders."""

_Count = Annotated[int, Field(ge=1)]


class ProfileTable(BaseModel):
    """A table; see the module.

    Attributes:
        data: Name of a data set.
        seeds: How many.
        resolution: Height and width in pixels, of data that have none of their own.
        training_per_class: The first so many images of each class are learned from.
        validation_per_class: The first so many are measured on.
        minutes: For how long seeds are added for claims that those do not decide; none are without it.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    data: str
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 3
    resolution: Annotated[int, Field(ge=8)] = 32
    training_per_class: _Count | None = None
    validation_per_class: _Count | None = None
    minutes: Annotated[float, Field(ge=0)] | None = None


def profiles_in(folder: Path) -> dict[str, ProfileMaker]:
    """Return the profiles that a folder's `pyproject.toml` has, by name.

    Raises:
        ProfileError: The file cannot be read, or a table is wrong; names the field and what would be right.
    """
    path = folder / SETTINGS
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("claims", {}).get("profiles", {})
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: cannot be read ({error})") from error
    if not isinstance(tables, dict):
        raise ProfileError(f"{path}: tool.claims.profiles is {tables!r}, should be a table of profiles")
    return {name: _maker(path, name, table) for name, table in tables.items()}


def _maker(path: Path, name: str, fields: Mapping[str, object]) -> ProfileMaker:
    where = f"{path}: [tool.claims.profiles.{name}]"
    try:
        table = ProfileTable.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        known = ", ".join(ProfileTable.model_fields)
        raise ProfileError(f"{where}: {field}: {first['msg']} (fields: {known})") from None
    if table.data not in DATASETS:
        raise ProfileError(f"{where}: there is no data set {table.data!r}, should be one of {', '.join(DATASETS)}")

    def make(request: ProfileRequest) -> Profile:
        try:
            spec = named_dataset(
                table.data,
                request.data_root,
                resolution=table.resolution,
                training_per_class=table.training_per_class,
                validation_per_class=table.validation_per_class,
                skip_bad_images=request.skip_bad_images,
            )
        except DatasetError as error:
            raise ProfileError(f"--profile {name}: {error}") from error
        seeds = tuple(range(table.seeds))
        return Profile(name=name, data=table.data, datasets={TARGET: spec}, seeds=seeds, minutes=table.minutes)

    return make
