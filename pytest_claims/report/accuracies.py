"""What plots show of a model: how accurate it is over its seeds, and how large."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pytest_claims.store import StoredRun
from pytest_claims.verdicts.estimates import Estimate, estimate

ModelRuns = Mapping[str, Sequence[StoredRun]]
"""Each model's runs, one a seed."""


@dataclass(frozen=True)
class MeasuredModel:
    """A model as it is plotted.

    Attributes:
        name: Of its recipe.
        accuracies: Percent after the last epoch, one a seed.
        estimate: Their mean and interval.
        parameters: How many it has.
        size: Bytes of its weights file.
        family: What it is grouped under.
    """

    name: str
    accuracies: tuple[float, ...]
    estimate: Estimate
    parameters: float
    size: float
    family: str = ""

    @property
    def errors(self) -> tuple[tuple[float], tuple[float]]:
        """From the mean down and up to the interval's ends, as error bars take them; 0 where one seed has none."""
        ends = (self.estimate.mean - self.estimate.lower, self.estimate.upper - self.estimate.mean)
        lower, upper = (end if math.isfinite(end) else 0.0 for end in ends)
        return (lower,), (upper,)


def measured_models(runs: ModelRuns, families: Mapping[str, str] = MappingProxyType({})) -> dict[str, MeasuredModel]:
    """The models of which accuracy and size were measured."""
    needed = {"accuracy", "parameters", "bytes"}
    complete = {
        name: kept
        for name, all_runs in runs.items()
        if (kept := [r for r in all_runs if needed <= set(r.measurements)])
    }
    return {name: _measured(name, kept, families.get(name, "")) for name, kept in complete.items()}


def _measured(name: str, runs: Sequence[StoredRun], family: str) -> MeasuredModel:
    accuracies = tuple(run.measurements["accuracy"] for run in runs)
    first = runs[0].measurements
    return MeasuredModel(name, accuracies, estimate(accuracies), first["parameters"], first["bytes"], family)
