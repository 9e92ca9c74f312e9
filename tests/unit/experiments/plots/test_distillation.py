import io

import pytest

from experiments.plots.distillation import draw_distillation

pytestmark = pytest.mark.slow


def test_question_2_names_and_numbers_each_model(models, conditions):
    (axes,) = draw_distillation(models, conditions).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert [label[-1] for label in labels] == list("abcde")
    numbers = [f"{models[name].estimate.mean:.2f}" for name in ("teacher-scratch", "student-distilled-finetuned")]
    shown = [annotation.get_text() for annotation in axes.texts]
    assert set(numbers) <= set(shown)
    assert "does not start at 0" in axes.get_xlabel()
    assert draw_distillation({"cnn-group": models["cnn-group"]}, conditions) is None


def test_a_single_model_is_a_plot(models, conditions):
    figure = draw_distillation({"student-scratch": models["student-scratch"]}, conditions)
    figure.savefig(io.BytesIO(), format="svg")
    assert len(figure.axes[0].containers) == 1
