"""Question 2: the accuracies of its five models, a to e."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_claims.report import plot_style as style
from pytest_claims.report.accuracies import MeasuredModel
from pytest_claims.report.conditions import Conditions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODELS = {
    "teacher-scratch": ("a", "teacher, from scratch"),
    "teacher-finetuned": ("b", "teacher, pre-trained and fine-tuned"),
    "student-scratch": ("c", "student, from scratch"),
    "student-distilled-scratch": ("d", "student, distilled from a"),
    "student-distilled-finetuned": ("e", "student, distilled from b"),
}
"""The report's letters, and what they stand for."""


def draw_distillation(models: Mapping[str, MeasuredModel], conditions: Conditions) -> Figure | None:
    """Dots with intervals, not bars: where differences of a point count, an axis from 0 would hide them."""
    present = [models[name] for name in MODELS if name in models]
    if not present:
        return None
    figure, axes = style.new_figure("Question 2: teachers and students", style.subtitle(conditions), (9, 4.6))
    for row, model in enumerate(present):
        _draw_model(axes, row, model)
    axes.set_yticks(range(len(present)), ["   ".join(reversed(MODELS[model.name])) for model in present], fontsize=11)
    axes.set_ylim(len(present) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{style.ACCURACY_LABEL}; the axis does not start at 0", fontsize=11)
    return figure


def _draw_model(axes: Axes, row: int, model: MeasuredModel) -> None:
    color = style.BLUE if model.name.startswith("teacher") else style.VERMILION
    marker = "s" if model.name.startswith("teacher") else "o"
    axes.plot(
        model.accuracies, [row + 0.2] * len(model.accuracies), "|", color=style.GREY, markersize=7, markeredgewidth=1.2
    )
    mean = model.estimate.mean
    axes.errorbar([mean], [row], xerr=model.errors, fmt=marker, color=color, markersize=8, capsize=5, linewidth=2)
    axes.annotate(
        f"{mean:.2f}", (mean, row), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=11, color=color
    )
