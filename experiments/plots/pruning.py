"""Question 3: accuracy over parameters as the student is pruned, one line for each rate and protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from experiments.recipes import RATES, pruning_curve
from pytest_claims.report import plot_style as style
from pytest_claims.report.accuracies import MeasuredModel
from pytest_claims.report.conditions import Conditions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PROTOCOLS = {
    "tuned": ("fine-tuned after each step", "-", "o"),
    "bn": ("BN re-estimated only", "--", "s"),
}
"""Label, line and marker of each."""

_COLORS = dict(zip(RATES, (style.BLUE, style.VERMILION), strict=True))


def draw_pruning(models: Mapping[str, MeasuredModel], conditions: Conditions) -> Figure | None:
    """The curves of which two models or more were measured; each starts at the student that is pruned."""
    curves = {
        (rate, protocol): [models[name] for name in pruning_curve(rate, protocol) if name in models]
        for protocol in PROTOCOLS
        for rate in RATES
    }
    curves = {key: curve for key, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = style.new_figure("Question 3: pruning step by step", style.subtitle(conditions), (9, 5.8))
    lines = [_draw_curve(axes, curve, rate, protocol) for (rate, protocol), curve in curves.items()]
    start = _mark_start(axes, models)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f} k")
    axes.set_xlabel("parameters", fontsize=11)
    axes.set_ylabel(style.ACCURACY_LABEL, fontsize=11)
    figure.legend(handles=[*lines, *start], loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    return figure


def _draw_curve(axes: Axes, curve: list[MeasuredModel], rate: float, protocol: str) -> ErrorbarContainer:
    label, line, marker = PROTOCOLS[protocol]
    lower, upper = zip(*(model.errors for model in curve), strict=True)
    return axes.errorbar(
        [model.parameters for model in curve],
        [model.estimate.mean for model in curve],
        yerr=([end for (end,) in lower], [end for (end,) in upper]),
        label=f"rate {rate:g}, {label}",
        color=_COLORS[rate],
        linestyle=line,
        marker=marker,
        markerfacecolor=_COLORS[rate] if protocol == "tuned" else "white",
        markersize=6,
        linewidth=1.8,
        elinewidth=1.2,
        capsize=3,
    )


def _mark_start(axes: Axes, models: Mapping[str, MeasuredModel]) -> list[Line2D]:
    name = pruning_curve(RATES[0], "bn")[0]
    if name not in models:
        return []
    start = models[name]
    return axes.plot(
        [start.parameters],
        [start.estimate.mean],
        "*",
        color=style.BLACK,
        markersize=15,
        zorder=5,
        label="start: distilled student",
    )
