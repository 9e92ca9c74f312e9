"""The suite as one set of options describes it: profile, recipes, data, store and the plan of any models. No torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pytest_claims.datasets.fractal import FractalSpec
from pytest_claims.datasets.preparation import (
    DataSpec,
    PreparedData,
    ResampledSpec,
    drawing_identity,
    of_seed,
    prepare,
)
from pytest_claims.datasets.size import DataSize, stored_size
from pytest_claims.keys.numerics import numerics_environment
from pytest_claims.recipes.catalog import Catalog, Run
from pytest_claims.recipes.profile import Profile, ProfileError, ProfileRequest
from pytest_claims.recipes.project import ProjectPlace, load_project
from pytest_claims.recipes.recipe import TARGET
from pytest_claims.store import Store, StoredRun
from pytest_claims.store.verified_runs import VerifyingOnce
from pytest_claims.suite.estimates import Estimator, read_past_runs, read_sizes
from pytest_claims.suite.planning import Plan, make_plan
from pytest_claims.verdicts.looks import Looks


@dataclass(frozen=True)
class SuiteOptions:
    """What a user chose; the same options give the same plan in every process.

    Attributes:
        project: Where the project's code is.
        profile: Name of the profile.
        store: Folder of the run store.
        seeds: Seeds in place of the profile's.
        device: Torch's name of the device that trains.
        data_root: Folder of images, for profiles that need one.
        skip_bad_images: Leave out images that cannot be read, instead of stopping.
        pretrained_weights: A safetensors file that recipes may start from.
        runs_per_gpu: Runs that share a GPU.
        resample: Let each seed divide the target's images anew into training and validation.
        until_decided: Add seeds for claims that are not decided.
        minutes: For how long, in place of the profile's.
    """

    project: ProjectPlace
    profile: str
    store: Path
    seeds: tuple[int, ...] | None = None
    device: str = "cpu"
    data_root: Path | None = None
    skip_bad_images: bool = False
    pretrained_weights: Path | None = None
    runs_per_gpu: int = 1
    resample: bool = False
    until_decided: bool = False
    minutes: float | None = None

    def to_json(self) -> str:
        """The options as one line."""
        fields = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items()}
        fields["project"] = [self.project.module, *map(str, self.project.paths)]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> "SuiteOptions":
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        module, *paths = fields["project"]
        fields["project"] = ProjectPlace(module, tuple(map(Path, paths)))
        for name in ("store", "data_root", "pretrained_weights"):
            fields[name] = Path(fields[name]) if fields[name] is not None else None
        fields["seeds"] = tuple(fields["seeds"]) if fields["seeds"] is not None else None
        return cls(**fields)


USUAL_MINUTES = 60.0
"""For which seeds are added, where neither user nor profile says how long."""


def _resampled(profile: Profile) -> Profile:
    """Return the profile with a target that each seed divides anew.

    Raises:
        ProfileError: Its images are drawn, anew for each seed.
    """
    target = profile.target
    if isinstance(target, FractalSpec | ResampledSpec):
        raise ProfileError(f"--profile {profile.name}: each seed has its own images; has no use for --resample")
    return replace(profile, datasets={**profile.datasets, TARGET: ResampledSpec(target)})


class Suite:
    """Profile, recipes, data and store; what is expensive is made when it is first asked for."""

    def __init__(self, options: SuiteOptions) -> None:
        self.options = options
        self.project = load_project(options.project)
        self._request = ProfileRequest(options.data_root, options.skip_bad_images, options.pretrained_weights)
        profile = self.project.profile(options.profile, self._request)
        self.profile = _resampled(profile) if options.resample else profile
        self.seeds = self.profile.seeds if options.seeds is None else options.seeds
        self.warnings: list[str] = []
        self.looks = self._looks()

    def _looks(self) -> Looks | None:
        """At which numbers of seeds claims are judged, if seeds are added.

        Raises:
            ProfileError: Seeds should be added to others than the first ones.
        """
        chosen = self.options.seeds is None and self.profile.minutes is not None
        if not (self.options.until_decided or chosen):
            return None
        if len(self.seeds) < 2 or self.seeds != tuple(range(len(self.seeds))):
            given = ",".join(map(str, self.seeds))
            raise ProfileError(f"--until-decided adds seeds to 0, 1, ..., at least two; has no use for seeds {given}")
        return Looks(len(self.seeds))

    @property
    def minutes(self) -> float:
        """For how long seeds are added, from the session's first run on."""
        given = (self.options.minutes, self.profile.minutes)
        return next((minutes for minutes in given if minutes is not None), USUAL_MINUTES)

    @cached_property
    def catalog(self) -> Catalog:
        """All recipes by name."""
        return self.project.recipes(self.profile, self._request)

    @cached_property
    def store(self) -> Store:
        """The run store."""
        return VerifyingOnce(self.options.store, on_damage=self.warnings.append)

    @cached_property
    def data(self) -> Callable[[str, int], PreparedData]:
        """The data of a role for a seed, made or decoded if they are not yet."""
        cache, prepared = self.store.root / "datasets", dict[DataSpec, PreparedData]()

        def data(role: str, seed: int) -> PreparedData:
            spec = of_seed(self.profile.datasets[role], seed)
            if spec not in prepared:
                prepared[spec] = prepare(spec, cache)
                self.warnings += [note for note in prepared[spec].notes if note not in self.warnings]
            return prepared[spec]

        return data

    def data_identity(self, role: str, seed: int) -> str:
        """Return what the data of a role for a seed are known by; drawn ones need not be drawn for it."""
        spec = of_seed(self.profile.datasets[role], seed)
        return drawing_identity(spec) if isinstance(spec, FractalSpec) else self.data(role, seed).identity

    def data_size(self, role: str) -> DataSize:
        """Return how many images the data of a role have, for every seed as many."""
        spec = self.profile.datasets[role]
        return spec.size if isinstance(spec, FractalSpec) else stored_size(self.data(role, self.seeds[0]).path)

    def data_of(self, run: Run) -> PreparedData | None:
        """The data that a run is made with, if any."""
        return self.data(run.recipe.data, run.seed) if run.recipe.data else None

    @cached_property
    def percent_of_an_image(self) -> float:
        """The step of an accuracy: what one of the validation images is of all."""
        return 100 / self.data_size(TARGET).validation

    @property
    def coverage(self) -> str:
        """What intervals cover of all that chance decides, in a sentence."""
        match self.profile.target:
            case FractalSpec():
                images = "each seed draws its own training and validation images"
            case ResampledSpec():
                images = "each seed divides the same images anew into training and validation"
            case _:
                images = "all seeds share training and validation images, whose choice the intervals do not cover"
        shared = [name for name, recipe in self.catalog.items() if recipe.shared and recipe.data]
        runs = (
            f"; {', '.join(shared)}: one run for all seeds, whose chance the intervals do not cover" if shared else ""
        )
        return f"Initialisation, order and augmentation differ from seed to seed, and {images}{runs}."

    @cached_property
    def estimator(self) -> Estimator:
        """What the store's runs so far tell about the time of others."""
        store = self.store.root
        sizes = {role: self.data_size(role) for role in self.profile.datasets}
        environment = numerics_environment(self.options.device)
        constants = self.project.reference_seconds
        return Estimator(read_past_runs(store), read_sizes(store / "datasets"), sizes, environment, constants)

    def forget_estimates(self) -> None:
        """Let estimates rest on the runs that the store has now, too."""
        self.__dict__.pop("estimator", None)

    def plan(self, wanted: Mapping[str, Sequence[int]]) -> Plan:
        """The runs that the models need, each of its seeds."""
        environment, paths = numerics_environment(self.options.device), self.options.project.paths
        return make_plan(self.catalog, wanted, self.data_identity, environment, self.estimator.seconds, paths)

    def stored(self, plan: Plan) -> dict[str, StoredRun]:
        """Those runs of a plan that are finished, verified, by key."""
        loaded = {key: self.store.load(key) for key in plan.runs}
        return {key: run for key, run in loaded.items() if run is not None}
