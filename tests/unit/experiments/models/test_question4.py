import pytest
import torch
from torch import nn

from compression.cost import parameter_count
from experiments.models import question4
from experiments.models.question4 import GROUPS
from experiments.recipes import QUESTION4_PARAMETERS, SMALL_PARAMETERS

KINDS = ("ordinary", "depthwise", "group")


def build(kind, parameters=QUESTION4_PARAMETERS):
    with torch.device("meta"):
        return question4.build(11, kind, parameters)


def convolutions(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def test_the_three_kinds_are_of_equal_size_within_five_percent():
    counts = [parameter_count(build(kind)) for kind in KINDS]
    assert max(counts) <= QUESTION4_PARAMETERS
    assert min(counts) >= 0.95 * max(counts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parameters", [2_000, 20_000, SMALL_PARAMETERS, QUESTION4_PARAMETERS])
def test_a_budget_is_kept_and_used(kind, parameters):
    count = parameter_count(build(kind, parameters))
    assert 0.6 * parameters <= count <= parameters


def test_ordinary_convolutions_have_one_group():
    assert [conv.groups for conv in convolutions(build("ordinary"))] == [1] * 5


def test_depthwise_convolutions_are_followed_by_pointwise_ones_but_the_first():
    first, *others = convolutions(build("depthwise"))
    assert first.groups == 1
    assert all(conv.groups == conv.in_channels > 1 and conv.kernel_size == (3, 3) for conv in others[::2])
    assert all(conv.groups == 1 and conv.kernel_size == (1, 1) for conv in others[1::2])
    assert len(others) == 8


def test_groups_are_neither_one_nor_the_input_channels_but_for_the_first():
    first, *others = convolutions(build("group"))
    assert first.groups == 1
    assert {conv.groups for conv in others} == {GROUPS}
    assert all(1 < GROUPS < conv.in_channels for conv in others)


def test_kinds_differ_in_their_convolutions_and_width_alone():
    ordinary, group = ([type(module) for module in build(kind).modules()] for kind in ("ordinary", "group"))
    assert ordinary == group


def test_channels_double_block_by_block():
    first, *others = (conv.out_channels for conv in convolutions(build("ordinary")))
    assert [round(width / first) for width in others] == [2, 4, 8, 8]


def test_an_unknown_kind_is_told_with_the_choice():
    with pytest.raises(ValueError, match="question4: kind is 'dilated', must be 'ordinary', 'depthwise' or 'group'"):
        question4.build(11, "dilated")


def test_a_budget_below_the_smallest_network_is_told():
    with pytest.raises(ValueError, match="above the budget of 100"):
        question4.build(11, "ordinary", 100)
