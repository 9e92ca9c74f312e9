"""What every claim has, whatever its kind."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from pytest_claims.claims.operands import MeasureName, Text
from pytest_claims.recipes.measure import Measure
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Verdict

Lookup: TypeAlias = Callable[[str, str], Sequence[float]]
"""(model name, measure) -> one number a seed, in seed order."""

Parts: TypeAlias = tuple[tuple[float, ...], ...]
"""For each part of a claim its samples, one a seed."""


class ClaimsError(ValueError):
    """The claims, or the measurements asked of them, cannot be used as they are."""


class Entry(BaseModel):
    """An object of the file: its fields are of their types, all known, and finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RecordedEstimate(Entry):
    """One part as it was measured: `verdicts.Estimate`, with null for what a single seed does not tell.

    `confidence` is the interval's; records from before claims had looks lack it, and are of 90 %.
    """

    mean: float
    sd: Annotated[float, Field(ge=0)] | None
    n: Annotated[int, Field(ge=1)]
    lower: float | None
    upper: float | None
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None


class Recorded(Entry):
    """The verdict that a profile gave when it was last recorded, and what it rested on, part by part.

    `numerics` tells the machine and the library that made it. Other numerics give other bits, and the same statistics.
    """

    verdict: Literal[Verdict.REPRODUCED, Verdict.REFUTED, Verdict.EQUAL, Verdict.INCONCLUSIVE]
    numerics: Text | None = None
    estimates: tuple[RecordedEstimate, ...] = ()


class Claim(Entry):
    """A statement on measurements. Its quantities, the *parts*, should all lie in one region.

    A kind of claim is a subclass that says which models it needs, how their measurements become parts, where these
    should lie, and how all that is told. To add one, write the subclass and name it in `claims_file.AnyClaim`.

    Attributes:
        id: Of its test.
        section: Of the file's sections, where pages and tables show it.
        source: Who states it.
        statement: In a sentence.
        note: How the statement was read.
        data: The data that it is about; all data without it.
        recorded: By profile.
        measure: What is measured of its models.
    """

    exact: ClassVar[bool] = False
    """Whether one seed tells all, as of counts."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    section: Text
    kind: str
    source: Text
    statement: Text
    note: Text | None = None
    data: Text | None = None
    recorded: Mapping[Text, Recorded] = Field(default_factory=dict)
    measure: MeasureName = "accuracy"

    def applies(self, data: str) -> bool:
        """Return whether the claim says anything about models trained on the data set `data`."""
        return self.data in (None, data)

    @abstractmethod
    def needed_models(self) -> tuple[str, ...]:
        """Return the models that should be there before the claim can be judged, each once."""

    @abstractmethod
    def region(self) -> Region:
        """Return where each of the claim's parts should lie, in the unit of `quantities`."""

    def equality(self) -> float | None:
        """Return the greatest difference that counts as none, in the unit of `quantities`; None where there is none."""
        return None

    @abstractmethod
    def quantities(self, lookup: Lookup) -> Parts:
        """Turn measurements into the samples of each part.

        Args:
            lookup: Gives one number a seed for (model, measure). Numbers at one position belong to one seed: runs are
                compared within it, where they share data order and parents.

        Raises:
            ClaimsError: The models were not measured on equally many seeds, or a ratio is by 0.
        """

    @abstractmethod
    def part_names(self) -> tuple[str, ...]:
        """Return what each part is, in the order of `quantities`."""

    @abstractmethod
    def expectation(self, measure: Measure) -> str:
        """Return what is expected of each part, such as "<= 0.5 points", "88.41 +- 1.2" or "256,779"."""

    def unit(self, measure: Measure) -> str:
        """Return what follows a number of the claim's, as in `expectation`, its space included."""
        return "" if measure.unit in ("", "%") else f" {measure.unit}"

    def decimals(self, value: float, measure: Measure) -> int:
        """Return how many decimals are shown of a number."""
        return measure.decimals


def by_seed(claim: Claim, lookup: Lookup, models: Sequence[str]) -> list[Sequence[float]]:
    """Return the measurements of each model, of equally many seeds.

    Raises:
        ClaimsError: One has more or fewer.
    """
    measured = [lookup(model, claim.measure) for model in models]
    for model, values in zip(models, measured, strict=True):
        if len(values) != len(measured[0]):
            raise ClaimsError(
                f"{claim.id}: {model} has {claim.measure} of {len(values)} seeds, should have as many as "
                f"{models[0]}, {len(measured[0])}: the two are compared seed by seed"
            )
    return measured


def differences(minuends: Sequence[float], subtrahends: Sequence[float]) -> tuple[float, ...]:
    """Return the differences, seed by seed."""
    return tuple(unnoised(a - b) for a, b in zip(minuends, subtrahends, strict=True))


def unnoised(value: float) -> float:
    """Return a decimal number's sum without binary noise: 88.4 - 87.9 is 0.5, on an edge of 0.5 and not beyond it."""
    return round(value, 9)


def difference_unit(measure: Measure) -> str:
    """Return the unit of a difference: of percent, points."""
    return " points" if measure.unit == "%" else f" {measure.unit}" if measure.unit else ""


def number_text(value: float | None) -> str:
    """Return a number as a person writes it; empty for None."""
    return "" if value is None else f"{value:,.12g}"


def bounds_text(lower: float | None, upper: float | None) -> str:
    """Return bounds, of which one may be missing, in short."""
    if lower is None or upper is None:
        return f"<= {number_text(upper)}" if lower is None else f">= {number_text(lower)}"
    return f"{number_text(lower)} to {number_text(upper)}"
