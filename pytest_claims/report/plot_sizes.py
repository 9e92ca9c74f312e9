"""Accuracy over the size of the weights file, of all models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from pytest_claims.report import plot_style as style
from pytest_claims.report.accuracies import MeasuredModel
from pytest_claims.report.conditions import Conditions
from pytest_claims.report.label_placement import Box, Point, is_beside, line_boxes, place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation


Curves: TypeAlias = Sequence[Sequence[MeasuredModel]]
"""Models that lines join, in order."""

_MARKER_POINTS = 7.0
_LABEL_POINTS = 8.5


def draw_sizes(models: Mapping[str, MeasuredModel], conditions: Conditions) -> Figure | None:
    """Draw a point for each model, labelled where there is room, and a line along each of the outline's curves.

    Left out are models that are only steps to others: far below all others, they would flatten the plot.
    """
    from matplotlib.ticker import LogLocator

    outline = conditions.outline
    models = {name: model for name, model in models.items() if name not in outline.intermediate}
    if not models:
        return None
    figure, axes = style.new_figure("Accuracy over size", style.subtitle(conditions), (10, 6.6))
    for number, family in enumerate(dict.fromkeys([*outline.families.values(), ""])):
        _draw_family(axes, family, number, [model for model in models.values() if model.family == family])
    curves = _measured_curves(outline.curves, models)
    for curve in curves:
        sizes, accuracies = [model.size for model in curve], [model.estimate.mean for model in curve]
        axes.plot(sizes, accuracies, color=style.GREY, linewidth=0.9, zorder=1)
    axes.set_xscale("log", subs=range(2, 10))
    axes.margins(x=0.18, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: bytes_text(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel("weights file (logarithmic)", fontsize=11)
    axes.set_ylabel(style.ACCURACY_LABEL, fontsize=11)
    if any(outline.families.values()):
        figure.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=9, columnspacing=1.4)
    _label(figure, axes, models, curves)
    return figure


def bytes_text(size: float) -> str:
    """Bytes as "300 kB" or "1.2 MB", of 1,000 and 1,000,000 bytes."""
    return f"{size / 1e6:.3g} MB" if size >= 999_500 else f"{size / 1e3:.3g} kB"


def _draw_family(axes: Axes, family: str, number: int, models: Sequence[MeasuredModel]) -> None:
    if not models:
        return
    color, marker = style.LOOKS[number % len(style.LOOKS)]
    lower, upper = zip(*(model.errors for model in models), strict=True)
    axes.errorbar(
        [model.size for model in models],
        [model.estimate.mean for model in models],
        yerr=([end for (end,) in lower], [end for (end,) in upper]),
        label=family or None,
        fmt=marker,
        color=color,
        markersize=_MARKER_POINTS,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1,
    )


def _measured_curves(curves: Sequence[Sequence[str]], models: Mapping[str, MeasuredModel]) -> Curves:
    """The curves, as far as their models were measured."""
    measured = [[models[name] for name in curve if name in models] for curve in curves]
    return [curve for curve in measured if len(curve) > 1]


def _label(figure: Figure, axes: Axes, models: Mapping[str, MeasuredModel], curves: Curves) -> None:
    """Labels the models, of those on curves only the ends; needs the axes' limits to be final."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    pixels = figure.dpi / 72
    radius = _MARKER_POINTS / 2 * pixels
    anchors = _pixel_positions(axes, models)
    steps = [(anchors[a.name], anchors[b.name]) for curve in curves for a, b in pairwise(curve)]
    lines = [box for step in steps for box in line_boxes(*step)]
    labels = {name: _annotation(axes, models[name]) for name in _labelled(models, curves)}
    where, sizes = [anchors[name] for name in labels], [_size(label) for label in labels.values()]
    places = place_labels(where, sizes, list(anchors.values()), lines, _frame(axes), radius)
    for label, anchor, place in zip(labels.values(), where, places, strict=True):
        if place is None:
            label.remove()
            continue
        label.set_position(_points_from(anchor, (place.left, place.bottom), pixels))
        if not is_beside(place, anchor, radius):
            _lead(axes, label, _points_from(anchor, place.nearest(anchor), pixels))


def _labelled(models: Mapping[str, MeasuredModel], curves: Curves) -> list[str]:
    """All but what lies inside a curve."""
    inside = {model.name for curve in curves for model in curve[1:-1]}
    return [name for name in models if name not in inside]


def _points_from(anchor: Point, place: Point, pixels: float) -> Point:
    """A place in pixels as an offset in points, of so many `pixels` each."""
    return (place[0] - anchor[0]) / pixels, (place[1] - anchor[1]) / pixels


def _pixel_positions(axes: Axes, models: Mapping[str, MeasuredModel]) -> dict[str, Point]:
    points = axes.transData.transform([(model.size, model.estimate.mean) for model in models.values()])
    return {name: (float(x), float(y)) for name, (x, y) in zip(models, points, strict=True)}


def _annotation(axes: Axes, model: MeasuredModel) -> Annotation:
    return axes.annotate(
        model.name,
        (model.size, model.estimate.mean),
        xytext=(0, 0),
        textcoords="offset points",
        verticalalignment="bottom",
        fontsize=_LABEL_POINTS,
        color="#222222",
    )


def _lead(axes: Axes, label: Annotation, end: Point) -> None:
    """A line from the label's point to `end`, given in points from it."""
    line = {"arrowstyle": "-", "color": style.GREY, "linewidth": 0.7, "shrinkA": 0, "shrinkB": _MARKER_POINTS / 2}
    axes.annotate("", label.xy, xytext=end, textcoords="offset points", arrowprops=line)


def _size(label: Annotation) -> Point:
    extent = label.get_window_extent()
    return extent.width, extent.height


def _frame(axes: Axes) -> Box:
    extent = axes.get_window_extent()
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)
