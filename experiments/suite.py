"""The suite as one set of options describes it: profile, recipes, data, store and the plan of any models. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from experiments.catalog import Catalog
from experiments.datasets.dataset import DatasetError
from experiments.datasets.preparation import PreparedData, prepare
from experiments.datasets.size import stored_size
from experiments.estimates import Estimator, read_past_runs, read_sizes
from experiments.numerics import numerics_environment
from experiments.planning import Plan, make_plan
from experiments.profiles import Profile, ProfileRequest, make_profile
from experiments.recipes import report_recipes
from experiments.store import Store, StoredRun
from experiments.store.verified_runs import VerifyingOnce

FOOD11_IMAGES = (9_866, 3_430)
"""Of the training and the validation split."""


@dataclass(frozen=True)
class SuiteOptions:
    """What a user chose; the same options give the same plan in every process.

    Attributes:
        profile: Name of the profile.
        store: Folder of the run store.
        seeds: Seeds in place of the profile's.
        device: Torch's name of the device that trains.
        data_root: Folder of images, for profiles that need one.
        skip_bad_images: Leave out images that cannot be read, instead of stopping.
        pretrained_weights: A safetensors file of ImageNet's ResNet18 weights.
        runs_per_gpu: Runs that share a GPU.
    """

    profile: str
    store: Path
    seeds: tuple[int, ...] | None = None
    device: str = "cpu"
    data_root: Path | None = None
    skip_bad_images: bool = False
    pretrained_weights: Path | None = None
    runs_per_gpu: int = 1

    def to_json(self) -> str:
        """The options as one line."""
        return json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items()})

    @classmethod
    def from_json(cls, text: str) -> "SuiteOptions":
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        for name in ("store", "data_root", "pretrained_weights"):
            fields[name] = Path(fields[name]) if fields[name] is not None else None
        fields["seeds"] = tuple(fields["seeds"]) if fields["seeds"] is not None else None
        return cls(**fields)


class Suite:
    """Profile, recipes, data and store; what is expensive is made when it is first asked for."""

    def __init__(self, options: SuiteOptions) -> None:
        self.options = options
        request = ProfileRequest(options.data_root, options.skip_bad_images, options.pretrained_weights)
        self.profile: Profile = make_profile(options.profile, request)
        self.seeds = self.profile.seeds if options.seeds is None else options.seeds
        self.warnings: list[str] = []

    @cached_property
    def catalog(self) -> Catalog:
        """All recipes by name."""
        return report_recipes(self.profile, self.options.pretrained_weights)

    @cached_property
    def store(self) -> Store:
        """The run store."""
        return VerifyingOnce(self.options.store, on_damage=self.warnings.append)

    @cached_property
    def data(self) -> Mapping[str, PreparedData]:
        """The data of each role, made or decoded if it is not yet."""
        specs = {"target": self.profile.target, "source": self.profile.source}
        cache = self.store.root / "datasets"
        prepared = {role: prepare(spec, cache) for role, spec in specs.items() if spec is not None}
        self.warnings += [note for data in prepared.values() for note in data.notes]
        if self.profile.data == "food-11":
            _check_food11(prepared["target"])
        return prepared

    @cached_property
    def percent_of_an_image(self) -> float:
        """The step of an accuracy: what one of the validation images is of all."""
        return 100 / stored_size(self.data["target"].path).validation

    @cached_property
    def estimator(self) -> Estimator:
        """What the store's runs so far tell about the time of others."""
        store = self.store.root
        hashes = {role: data.content_hash for role, data in self.data.items()}
        environment = numerics_environment(self.options.device)
        return Estimator(read_past_runs(store), read_sizes(store / "datasets"), hashes, environment)

    def plan(self, wanted: Mapping[str, Sequence[int]]) -> Plan:
        """The runs that the models need, each of its seeds."""
        hashes = {role: data.content_hash for role, data in self.data.items()}
        environment = numerics_environment(self.options.device)
        return make_plan(self.catalog, wanted, hashes, environment, self.estimator.seconds)

    def stored(self, plan: Plan) -> dict[str, StoredRun]:
        """Those runs of a plan that are finished, verified, by key."""
        loaded = {key: self.store.load(key) for key in plan.runs}
        return {key: run for key, run in loaded.items() if run is not None}


def _check_food11(data: PreparedData) -> None:
    """Published numbers are judged only on the images that they were published for.

    Raises:
        DatasetError: There are more or fewer, those counted that were left out.
    """
    size = stored_size(data.path)
    images, published = size.training + size.validation + len(data.notes), sum(FOOD11_IMAGES)
    if images != published:
        training, validation = FOOD11_IMAGES
        raise DatasetError(
            f"--profile food11: {images:,} images are not Food-11, which has {training:,} in training/ and "
            f"{validation:,} in validation/; --profile images takes any folder"
        )
