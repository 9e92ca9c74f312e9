"""The plots as files, PNG and SVG of each."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_claims.report.accuracies import MeasuredModel, measured_models
from pytest_claims.report.conditions import Conditions, Outline, Plot
from pytest_claims.report.drawn_before import drawing_inputs, is_drawn, record_drawn
from pytest_claims.report.files import remove_file, write_file
from pytest_claims.report.measured_models import runs_by_model
from pytest_claims.report.plot_sizes import draw_sizes
from pytest_claims.suite.judging import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


SIZES = Plot(
    "accuracy_over_bytes",
    "Accuracy of every model over the size of its weights file, on a logarithmic axis; named where there is room.",
    None,
    draw_sizes,
    compares=False,
)
"""Drawn of every report."""


def all_plots(outline: Outline) -> tuple[Plot, ...]:
    """Return the plots that results may have, in the order in which they are shown."""
    return (SIZES, *outline.plots)


def write_plots(findings: Mapping[str, Finding], conditions: Conditions, folder: Path) -> list[Path]:
    """Writes each plot whose models were measured; files of a plot that cannot be drawn are removed.

    Files that a former session has drawn from the same stay as they are.

    Returns:
        The files that there are now, in the order of `all_plots`.

    Raises:
        ResultsError: The folder cannot be written to.
    """
    models = measured_models(runs_by_model(findings), conditions.outline.families)
    plots = all_plots(conditions.outline)
    names = [f"{plot.name}.{extension}" for plot in plots for extension in FORMATS]
    inputs = drawing_inputs(models, conditions, [plot.draw.__module__ for plot in plots])
    if not is_drawn(folder, names, inputs):
        for plot in plots:
            _draw(plot, models, conditions, folder)
        record_drawn(folder, names, inputs)
    return [path for name in names if (path := folder / name).exists()]


def _draw(plot: Plot, models: Mapping[str, MeasuredModel], conditions: Conditions, folder: Path) -> None:
    figure = plot.draw(models, conditions) if len(conditions.seeds) > 1 or not plot.compares else None
    for extension in FORMATS:
        path = folder / f"{plot.name}.{extension}"
        if figure is None:
            remove_file(path)
        else:
            write_file(path, _image(figure, extension))


def _image(figure: Figure, extension: str) -> bytes:
    """The image's bytes, the same each time: without a date, and with ids that do not change."""
    import matplotlib as mpl

    content = BytesIO()
    metadata = {"Date": None} if extension == "svg" else {}
    with mpl.rc_context({"svg.hashsalt": "pytest-claims"}):
        figure.savefig(content, format=extension, metadata=metadata)
    return content.getvalue()
