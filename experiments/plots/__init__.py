"""The plots of our questions."""

from experiments.plots.distillation import draw_distillation
from experiments.plots.pruning import draw_pruning
from pytest_claims.report.conditions import Plot

PLOTS = (
    Plot(
        "question2",
        "Accuracy of the teachers (a, b) and students (c, d, e) of question 2; each stroke below a mean is a seed.",
        "question 2",
        draw_distillation,
    ),
    Plot(
        "question3",
        "Accuracy over parameters as the student is pruned step by step, by rate and protocol.",
        "question 3",
        draw_pruning,
    ),
)
"""In the order in which they are shown."""
