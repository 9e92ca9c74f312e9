"""What is measured of models: the unit of each measure, and how its numbers are read."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """A number of a run.

    Attributes:
        name: As runs and claims have it.
        unit: What follows a number, such as `%`; empty for what has none.
        exact: Whether one seed tells it, such as a count; statistics are for all else.
        counts_images: Whether it is a share of the validation images in percent, whose step is one image.
        better: Whether more or less is better; None where neither is.
        decimals: Shown of a number.
    """

    name: str
    unit: str = ""
    exact: bool = False
    counts_images: bool = False
    better: Literal["more", "less"] | None = None
    decimals: int = 2


BUILT_IN = (
    Measure("parameters", exact=True, better="less", decimals=0),
    Measure("macs", exact=True, better="less", decimals=0),
    Measure("bytes", exact=True, better="less", decimals=0),
    Measure("accuracy", "%", counts_images=True, better="more"),
    Measure("best_accuracy", "%", counts_images=True, better="more"),
)
"""Known without being declared."""
