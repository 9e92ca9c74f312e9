"""The plots as files, PNG and SVG of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.judging import Finding
from experiments.report.accuracies import MeasuredModel, measured_models
from experiments.report.conditions import Conditions
from experiments.report.drawn_before import drawing_inputs, is_drawn, record_drawn
from experiments.report.files import remove_file, write_file
from experiments.report.measured_models import runs_by_model
from experiments.report.plot_distillation import draw_distillation
from experiments.report.plot_pruning import draw_pruning
from experiments.report.plot_sizes import draw_sizes
from experiments.report.plot_style import INTERVALS, NO_INTERVALS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


@dataclass(frozen=True)
class Plot:
    """A plot that results may have.

    Attributes:
        name: Of its files.
        caption: What it shows, for those who cannot see it, too.
        question: The question that it belongs to; None for all of them.
        draw: Makes the figure from the measured models and a subtitle; None where there is nothing to draw.
    """

    name: str
    caption: str
    question: int | None
    draw: Callable[[Mapping[str, MeasuredModel], str], Figure | None]


PLOTS = (
    Plot(
        "accuracy_over_bytes",
        "Accuracy of every model over the size of its weights file, on a logarithmic axis; named where there is room.",
        None,
        draw_sizes,
    ),
    Plot(
        "question2",
        "Accuracy of the teachers (a, b) and students (c, d, e) of question 2; each stroke below a mean is a seed.",
        2,
        draw_distillation,
    ),
    Plot(
        "question3",
        "Accuracy over parameters as the student is pruned step by step, by rate and protocol.",
        3,
        draw_pruning,
    ),
)
"""All plots, in the order in which they are shown."""


def write_plots(findings: Mapping[str, Finding], conditions: Conditions, folder: Path) -> list[Path]:
    """Writes each plot whose models were measured; files of a plot that cannot be drawn are removed.

    Files that a former session has drawn from the same stay as they are.

    Returns:
        The files that there are now, in the order of `PLOTS`.

    Raises:
        ResultsError: The folder cannot be written to.
    """
    models = measured_models(runs_by_model(findings))
    subtitle = f"{conditions.title}; {INTERVALS if len(conditions.seeds) > 1 else NO_INTERVALS}"
    names = [f"{plot.name}.{extension}" for plot in PLOTS for extension in FORMATS]
    inputs = drawing_inputs(models, subtitle)
    if not is_drawn(folder, names, inputs):
        for plot in PLOTS:
            _draw(plot, models, subtitle, folder)
        record_drawn(folder, names, inputs)
    return [path for name in names if (path := folder / name).exists()]


def _draw(plot: Plot, models: Mapping[str, MeasuredModel], subtitle: str, folder: Path) -> None:
    figure = plot.draw(models, subtitle)
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
    with mpl.rc_context({"svg.hashsalt": "compression-claims"}):
        figure.savefig(content, format=extension, metadata=metadata)
    return content.getvalue()
