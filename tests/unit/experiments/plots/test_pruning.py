import io

import pytest

from experiments.plots.pruning import draw_pruning
from pytest_claims.report.accuracies import measured_models
from pytest_claims.report.measured_models import runs_by_model

pytestmark = pytest.mark.slow


def test_question_3_has_a_line_for_each_rate_and_protocol_with_its_intervals(models, conditions):
    figure = draw_pruning(models, conditions)
    (axes,) = figure.axes
    assert len(axes.containers) == 4
    for container, (rate, protocol) in zip(
        axes.containers, [(0.95, "tuned"), (0.9, "tuned"), (0.95, "bn"), (0.9, "bn")], strict=True
    ):
        names = ["student-distilled-finetuned", *(f"pruned-{rate}-{step}-{protocol}" for step in range(1, 6))]
        line, _, (bars,) = container
        assert list(line.get_xdata()) == [models[name].parameters for name in names]
        assert list(line.get_ydata()) == [models[name].estimate.mean for name in names]
        ends = [sorted(end for _, end in segment) for segment in bars.get_segments()]
        intervals = [(models[name].estimate.lower, models[name].estimate.upper) for name in names]
        assert [pytest.approx(end) for end in ends] == [list(interval) for interval in intervals]
    assert not axes.xaxis_inverted()
    assert len(figure.legends[0].get_texts()) == 5


def test_question_3_draws_only_what_was_measured(models, conditions):
    bn = {name: model for name, model in models.items() if "tuned" not in name.split("-")}
    (axes,) = draw_pruning(bn, conditions).axes
    assert len(axes.containers) == 2
    assert (
        draw_pruning({name: models[name] for name in ("student-distilled-finetuned", "cnn-group")}, conditions) is None
    )


def test_one_seed_is_drawn_without_intervals(judged, conditions):
    one = measured_models(runs_by_model(judged(seeds=1)))
    (axes,) = draw_pruning(one, conditions).axes
    for _, _, (bars,) in axes.containers:
        assert all(segment[0][1] == segment[1][1] for segment in bars.get_segments())
    content = io.BytesIO()
    axes.figure.savefig(content, format="png")
    assert content.tell() > 0
