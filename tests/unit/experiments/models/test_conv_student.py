import pytest
import torch
from torch import nn

from compression.cost import parameter_count
from experiments.models import conv_student
from experiments.models.student_widths import WIDTHS

LAST = WIDTHS[-1]


@pytest.mark.parametrize("extra", ["hidden", "pointwise", "none"])
def test_every_layer_is_an_ordinary_convolution(extra):
    with torch.device("meta"):
        model = conv_student.build(11, extra)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert {convolution.groups for convolution in convolutions} == {1}
    assert [convolution.out_channels for convolution in convolutions[:8]] == list(WIDTHS)
    assert {convolution.kernel_size for convolution in convolutions[:8]} == {(3, 3)}


def test_the_two_readings_add_one_square_layer_to_the_twin():
    with torch.device("meta"):
        counts = {extra: parameter_count(conv_student.build(11, extra)) for extra in ("hidden", "pointwise", "none")}
    assert counts["hidden"] == counts["pointwise"] == counts["none"] + LAST * LAST + LAST


def test_the_readings_differ_in_where_that_layer_stands():
    hidden, pointwise = conv_student.build(11, "hidden"), conv_student.build(11, "pointwise")
    linear = [module for module in hidden if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(LAST, LAST), (LAST, 11)]
    assert len([module for module in pointwise if isinstance(module, nn.Linear)]) == 1
    assert pointwise[7][-1].kernel_size == (1, 1)


def test_the_default_is_the_hidden_layer():
    with torch.device("meta"):
        assert str(conv_student.build(11)) == str(conv_student.build(11, "hidden"))


def test_an_unknown_reading_is_told_with_the_choice():
    with pytest.raises(ValueError, match="conv_student: extra is 'both', must be 'hidden', 'pointwise' or 'none'"):
        conv_student.build(11, "both")
