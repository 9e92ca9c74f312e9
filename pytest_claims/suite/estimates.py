"""How long a run will take, judged by the runs that a store has.

Time is taken as proportional to a run's load: the pixels that pass through the network. The seconds per pixel are those
of the most similar earlier runs on the same kind of machine; without any, rough constants are scaled by what is known
of the machine's speed. Estimates order the work and tell the time left; no key and no result depends on them.
"""

import json
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from statistics import median
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from pytest_claims.datasets.dataset import DatasetError, stored_identity
from pytest_claims.datasets.size import DataSize, stored_size
from pytest_claims.recipes.recipe import Recipe
from pytest_claims.store import MANIFEST

_REFERENCE = DataSize(660, 1980, 32 * 32)
"""The data that the constants were measured on."""

ReferenceSeconds = Mapping[tuple[str, str], float]
"""By builder and the architecture's module: seconds an epoch, or in all without epochs, of `_REFERENCE` on a core."""

_OTHER_SECONDS_PER_EPOCH = 0.6
_OTHER_SECONDS = 0.05

_BACKWARD = 2
"""A backward pass computes two products, by inputs and by weights, where a forward pass computes one."""

_HARDWARE = ("device", "machine", "cpu", "threads")
"""What of the environment decides speed; another version of torch hardly does."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Architecture(_Strict):
    module: str
    options: JsonValue


class _Budget(_Strict):
    epochs: int = Field(gt=0, le=1_000_000)
    precision: str


class _Recipe(_Strict):
    """What is read of a canonical recipe."""

    builder: str
    architecture: _Architecture | None
    budget: _Budget | None


class PastRun(_Strict):
    """What a finished run's manifest tells about the time that it took.

    Attributes:
        recipe: Canonical.
        data: Identity of its data, that of its file before a colon.
        environment: Of the machine that made it.
        seconds: How long that took.
    """

    recipe: dict[str, JsonValue]
    data: str | None
    environment: dict[str, JsonValue]
    seconds: float = Field(ge=0.001, le=1e8)


class _Manifest(_Strict):
    provenance: PastRun


def read_past_runs(store: Path) -> list[PastRun]:
    """Reads the manifests of a store; what is no whole manifest, or lacks a field, is left out.

    Nothing is verified: a damaged run can make an estimate wrong, and that is all.
    """
    return list(_past_runs(store / "runs"))


def _past_runs(folder: Path) -> Iterator[PastRun]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                with suppress(OSError, ValidationError):
                    manifest = Path(entry.path, MANIFEST).read_bytes()
                    yield _Manifest.model_validate_json(manifest).provenance


def read_sizes(folder: Path) -> dict[str, DataSize]:
    """The sizes of the data sets in a folder, by identity; other files are left out."""
    sizes = {}
    for path in folder.glob("*.safetensors"):
        with suppress(DatasetError):
            sizes[stored_identity(path)] = stored_size(path)
    return sizes


@dataclass(frozen=True)
class _Work:
    """What a run's time depends on."""

    recipe: str
    builder: str
    module: str
    options: str
    precision: str | None
    epochs: int | None
    size: DataSize | None

    @property
    def load(self) -> int:
        """Pixels that pass forward through the network, those that pass backward counted by their cost; never 0."""
        if self.size is None:
            return 1
        if self.epochs is None:
            return self.size.validation * self.size.pixels
        passes = (1 + _BACKWARD) * self.size.training + self.size.validation
        return self.epochs * passes * self.size.pixels

    def reference_seconds(self, constants: ReferenceSeconds) -> float:
        """What the constants say."""
        known = constants.get((self.builder, self.module))
        if self.epochs is None:
            at_reference = _OTHER_SECONDS if known is None else known
        else:
            at_reference = self.epochs * (_OTHER_SECONDS_PER_EPOCH if known is None else known)
        reference = replace(self, size=self.size and _REFERENCE)
        return at_reference * self.load / reference.load

    @cached_property
    def likeness(self) -> tuple[Hashable, ...]:
        """By what it resembles other work, the closest first."""
        pixels = self.size.pixels if self.size else None
        kind = self.builder, self.module, self.epochs is None
        return (
            (self.recipe, self.size),
            self.recipe,
            (*kind, self.options, self.precision, pixels),
            (*kind, self.precision, pixels),
            kind,
        )


@cache
def _work(canonical: str, size: DataSize | None) -> _Work:
    """Reads a canonical recipe, JSON with its keys sorted; a store has few that differ.

    Raises:
        ValidationError: It is none.
    """
    recipe = _Recipe.model_validate_json(canonical)
    return _Work(
        recipe=canonical,
        builder=recipe.builder,
        module=recipe.architecture.module if recipe.architecture else "",
        options=json.dumps(recipe.architecture.options if recipe.architecture else None),
        precision=recipe.budget.precision if recipe.budget else None,
        epochs=recipe.budget.epochs if recipe.budget else None,
        size=size,
    )


def _canonical(recipe: Mapping[str, object]) -> str:
    return json.dumps(recipe, sort_keys=True)


class Estimator:
    """Estimates seconds from earlier runs.

    Attributes:
        evidence: How many earlier runs it rests on.
    """

    def __init__(
        self,
        past: Iterable[PastRun],
        sizes: Mapping[str, DataSize],
        data: Mapping[str, DataSize],
        environment: Mapping[str, object],
        constants: ReferenceSeconds = MappingProxyType({}),
    ) -> None:
        """Takes in what is known.

        Args:
            past: Earlier runs; those of another kind of machine, or on data whose size is unknown, don't count.
            sizes: Of data sets, by identity.
            data: Size of each role's data, for all seeds the same.
            environment: Of the machine that the estimates are for; see `pytest_claims.keys.numerics`.
            constants: What is known without any run.
        """
        self._data = data
        known = list(_comparable(past, sizes, environment))
        self.evidence = len(known)
        self._rates: dict[Hashable, list[float]] = defaultdict(list)
        for work, seconds in known:
            for closeness, alike in enumerate(work.likeness):
                self._rates[closeness, alike].append(seconds / work.load)
        # Sums, so that long runs count most: short ones are mostly start-up.
        self._constants = constants
        reference = sum(work.reference_seconds(constants) for work, _ in known)
        self._slowness = sum(seconds for _, seconds in known) / reference if known else 1.0

    def seconds(self, recipe: Recipe) -> float:
        """Estimated seconds that a run of the recipe takes alone: the median of those most like it, by its load."""
        size = self._data[recipe.data] if recipe.data else None
        work = _work(_canonical(recipe.canonical()), size)
        for closeness, alike in enumerate(work.likeness):
            if rates := self._rates.get((closeness, alike)):
                return median(rates) * work.load
        return self._slowness * work.reference_seconds(self._constants)


def _comparable(
    past: Iterable[PastRun], sizes: Mapping[str, DataSize], environment: Mapping[str, object]
) -> Iterator[tuple[_Work, float]]:
    """The work of past runs on the same kind of machine, and the seconds that it took."""
    hardware = [environment[name] for name in _HARDWARE]
    for run in past:
        if [run.environment.get(name) for name in _HARDWARE] != hardware:
            continue
        size = sizes.get(run.data.partition(":")[0]) if run.data else None
        if run.data is None or size:
            with suppress(ValidationError):
                yield _work(_canonical(run.recipe), size), run.seconds
