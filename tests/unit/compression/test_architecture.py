import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.architecture import (
    convolution_like,
    depthwise_separable,
    depthwise_separable_parameters,
    grouped,
    grouped_parameters,
    replace_convolutions,
    replace_layers,
    width_for_budget,
)
from compression.cost import multiply_accumulates, parameter_count


@st.composite
def convolutions(draw, multiple=1):
    return nn.Conv2d(
        multiple * draw(st.integers(1, 4)),
        multiple * draw(st.integers(1, 4)),
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    )


properties = settings(deadline=None, max_examples=40)


@given(convolutions())
@properties
def test_depthwise_separable_keeps_output_shapes_and_has_the_count_foretold(conv):
    separable = depthwise_separable(conv)
    images = torch.zeros(2, conv.in_channels, 7, 6)
    assert separable(images).shape == conv(images).shape
    assert parameter_count(separable) == depthwise_separable_parameters(conv)
    area = conv.kernel_size[0] * conv.kernel_size[1]
    biases = 0 if conv.bias is None else conv.in_channels + conv.out_channels
    assert parameter_count(separable) == conv.in_channels * (area + conv.out_channels) + biases


def test_depthwise_separable_filters_each_channel_alone_then_mixes():
    depthwise, pointwise = depthwise_separable(nn.Conv2d(3, 5, 3, stride=2, padding=1))
    image = torch.randn(1, 3, 6, 6)
    changed = image.clone()
    changed[:, 1] += 1
    difference = (depthwise(changed) - depthwise(image)).abs().amax((0, 2, 3))
    assert difference[1] > 0
    assert difference[[0, 2]].max() == 0
    assert (depthwise.stride, pointwise.stride) == ((2, 2), (1, 1))
    assert (depthwise.groups, pointwise.kernel_size) == (3, (1, 1))


def test_depthwise_separable_costs_the_published_fraction():
    # Howard et al. (2017), section 3.1: 1 / N + 1 / k^2 of the multiply-accumulates.
    conv = nn.Conv2d(16, 32, 3, padding=1, bias=False)
    dense = multiply_accumulates(conv, (16, 8, 8))
    separable = multiply_accumulates(depthwise_separable(conv), (16, 8, 8))
    assert separable / dense == pytest.approx(1 / 32 + 1 / 9)


@given(st.sampled_from([1, 2, 3, 4]).flatmap(lambda g: st.tuples(st.just(g), convolutions(multiple=g))))
@properties
def test_grouped_keeps_output_shapes_and_has_the_count_foretold(case):
    groups, conv = case
    rewritten = grouped(conv, groups)
    images = torch.zeros(2, conv.in_channels, 7, 6)
    assert rewritten(images).shape == conv(images).shape
    assert rewritten.groups == groups
    assert parameter_count(rewritten) == grouped_parameters(conv, groups)
    biases = 0 if conv.bias is None else conv.out_channels
    assert (parameter_count(rewritten) - biases) * groups == conv.weight.numel()


@given(convolutions())
@properties
def test_a_convolution_like_another_computes_the_same_with_its_weights(conv):
    like = convolution_like(conv, conv.in_channels, conv.out_channels)
    like.load_state_dict(conv.state_dict())
    images = torch.randn(2, conv.in_channels, 7, 6)
    assert torch.equal(like(images), conv(images))


def test_dtype_and_training_flag_are_kept():
    conv = nn.Conv2d(4, 4, 3).double().eval()
    for rewritten in (depthwise_separable(conv), grouped(conv, 2), convolution_like(conv, 2, 6)):
        assert {parameter.dtype for parameter in rewritten.parameters()} == {torch.float64}
        assert not any(module.training for module in rewritten.modules())


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_paddings_are_kept(padding):
    conv = nn.Conv2d(4, 6, 3, padding=padding)
    images = torch.zeros(1, 4, 7, 7)
    assert depthwise_separable(conv)(images).shape == conv(images).shape
    assert grouped(conv, 2)(images).shape == conv(images).shape


def test_a_grouped_convolution_is_an_error():
    conv = nn.Conv2d(4, 4, 3, groups=2)
    for attempt in (depthwise_separable, depthwise_separable_parameters):
        with pytest.raises(ValueError, match="has 2 groups"):
            attempt(conv)
    for attempt in (grouped, grouped_parameters):
        with pytest.raises(ValueError, match="has 2 groups"):
            attempt(conv, 4)


@pytest.mark.parametrize("groups", [0, -1, 3, 4])
def test_groups_that_do_not_divide_the_channels_are_an_error(groups):
    with pytest.raises(ValueError, match=f"{groups} groups don't divide the 4 input and 6 output channels"):
        grouped(nn.Conv2d(4, 6, 3), groups)


def nested_model():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)),
        nn.Flatten(),
        nn.Linear(8 * 16, 2),
    )


def test_convolutions_are_replaced_by_name_in_a_copy():
    model = nested_model()
    before = list(model.modules())
    rewritten = replace_convolutions(model, lambda name, conv: grouped(conv, 4) if name == "1.1" else None)
    assert rewritten[1][1].groups == 4
    assert rewritten[0].groups == 1
    assert torch.equal(rewritten[0].weight, model[0].weight)
    assert rewritten[0].weight is not model[0].weight
    assert list(model.modules()) == before
    assert rewritten(torch.zeros(1, 3, 4, 4)).shape == (1, 2)


def test_only_convolutions_are_offered_with_the_names_of_get_submodule():
    model = nested_model()
    offered = {}
    replace_convolutions(model, lambda name, conv: offered.update({name: conv}))
    assert list(offered) == ["0", "1.1"]
    assert all(offered[name].weight.shape == model.get_submodule(name).weight.shape for name in offered)


def test_a_model_that_is_itself_a_convolution_is_replaced():
    assert replace_convolutions(nn.Conv2d(4, 4, 3), lambda name, conv: grouped(conv, 2)).groups == 2


def test_a_shared_layer_is_rewritten_once_and_stays_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv, nn.Sequential(conv))
    names = []

    def rewrite(name, layer):
        names.append(name)
        return grouped(layer, 2)

    rewritten = replace_convolutions(model, rewrite)
    assert names == ["0"]
    assert rewritten[0] is rewritten[2]
    assert rewritten[0] is rewritten[3][0]
    assert rewritten[0].groups == 2


def test_what_replaces_a_module_is_not_searched_itself():
    rewritten = replace_layers(
        nested_model(), lambda name, layer: nn.Sequential(nn.ReLU()) if isinstance(layer, nn.ReLU) else None
    )
    assert isinstance(rewritten[1][0][0], nn.ReLU)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 200), st.integers(0, 10_000))
@properties
def test_width_for_budget_is_the_largest_that_fits(square, linear, constant, slack):
    def count(width):
        return square * width * width + linear * width + constant

    budget = count(1) + slack
    expected = max(width for width in range(1, 102) if count(width) <= budget)
    assert width_for_budget(count, budget) == expected
    assert width_for_budget(count, budget, at_most=7) == min(expected, 7)


def test_width_for_budget_asks_for_no_width_above_twice_its_answer():
    asked = []

    def count(width):
        asked.append(width)
        return width**2

    assert width_for_budget(count, 10_000) == 100
    assert max(asked) <= 200


def test_width_for_budget_stops_where_the_count_does_not_grow():
    assert width_for_budget(lambda width: 5, 5, at_least=3, at_most=1000) == 1000
    assert width_for_budget(lambda width: width, 10, at_least=10, at_most=10) == 10


def test_width_for_budget_fits_a_real_network(build_student):
    def count(width):
        return parameter_count(build_student((width, 2 * width, 2 * width)))

    width = width_for_budget(count, 20_000)
    assert count(width) <= 20_000 < count(width + 1)


def test_a_budget_below_the_smallest_width_is_an_error():
    with pytest.raises(ValueError, match="width 4 needs 40 parameters, above the budget of 39"):
        width_for_budget(lambda width: 10 * width, 39, at_least=4)


@pytest.mark.parametrize(("least", "most"), [(0, 5), (6, 5)])
def test_width_bounds_out_of_order_are_an_error(least, most):
    with pytest.raises(ValueError, match=f"widths from {least} to {most}"):
        width_for_budget(lambda width: width, 10, at_least=least, at_most=most)
