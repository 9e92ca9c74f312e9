"""How all plots look: colours that colour-blind readers tell apart, and room for what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_claims.report.conditions import Conditions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
"""Of the palette of Okabe and Ito (2008)."""

LOOKS = tuple(
    zip(
        (BLUE, VERMILION, ORANGE, SKY, GREEN, PURPLE, BLACK),
        ("s", "o", "D", "v", "P", "^", "<"),
        strict=True,
    )
)
"""Colour and marker of each family of models."""

GREY = "#8A8A8A"
ACCURACY_LABEL = "validation accuracy, last epoch (%)"
INTERVALS = "mean and 90 % t interval over seeds"
NO_INTERVALS = "one seed has no interval"


def new_figure(title: str, subtitle: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure of one plot, `size` inches wide and high, which belongs to nobody else: no pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", pad=26, fontsize=14, fontweight="bold")
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 9),
        textcoords="offset points",
        fontsize=10,
        color="#444444",
    )
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10)
    return figure, axes


def subtitle(conditions: Conditions) -> str:
    """Return what every plot says below its title: what it was measured on, and what its bars mean."""
    return f"{conditions.title}; {INTERVALS if len(conditions.seeds) > 1 else NO_INTERVALS}"
