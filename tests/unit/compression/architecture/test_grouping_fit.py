import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import DTYPES, assert_close, convolutions, dense_convolution, effective_kernel
from torch import nn

from compression.architecture.channel_groups import ChannelGroups, contiguous_groups
from compression.architecture.grouping_fit import fit_grouped
from compression.architecture.patch_moments import PatchMoments, measure_patch_moments
from compression.layers.replacement import convolution_like

properties = settings(deadline=None, max_examples=25)


@st.composite
def cases(draw, **options):
    """An ungrouped convolution and groups of its channels."""
    small, count = draw(convolutions(most=3, **options)), draw(st.integers(1, 3))
    conv = convolution_like(small, small.in_channels * count, small.out_channels * count)
    sides = [
        np.reshape(draw(st.permutations(range(channels))), (count, -1)).tolist()
        for channels in (conv.in_channels, conv.out_channels)
    ]
    return conv, ChannelGroups(*(tuple(tuple(sorted(group)) for group in side) for side in sides))


def inside(conv, groups):
    """A mask of the kernel's entries inside of the groups."""
    mask = torch.zeros_like(conv.weight)
    for seen, fed in zip(groups.inputs, groups.outputs, strict=True):
        mask[torch.tensor(fed)[:, None], torch.tensor(seen)] = 1
    return mask


@given(cases(dtypes=DTYPES))
@properties
def test_the_kernel_keeps_what_is_inside_of_the_groups(case):
    conv, groups = case
    fitted = fit_grouped(conv, groups)
    kernel = effective_kernel(fitted, conv)
    assert torch.equal(kernel, conv.weight.detach() * inside(conv, groups))
    images = torch.randn(2, conv.in_channels, 7, 6, dtype=conv.weight.dtype)
    assert_close(fitted(images), dense_convolution(conv, kernel, conv.bias)(images))
    weights = sum(layer.weight.numel() for layer in fitted.modules() if isinstance(layer, nn.Conv2d))
    assert weights * len(groups.inputs) == conv.weight.numel()


def rows(maps):
    return maps.detach().movedim(1, -1).flatten(0, -2).numpy()


@given(cases())
@properties
def test_with_moments_each_groups_outputs_are_the_regression_on_its_inputs_patches(case):
    conv, groups = case
    images = torch.randn(6, conv.in_channels, 7, 6, dtype=torch.float64) + 1
    images[:, 0] += images[:, -1]
    fitted = fit_grouped(conv, groups, moments=measure_patch_moments(conv, [""], [images])[""])
    wanted, got = rows(conv(images)), rows(fitted(images))
    # The patches themselves, as outputs of a convolution whose kernels each pick one of their values.
    picking = convolution_like(conv, conv.in_channels, conv.weight[0].numel(), bias=False)
    with torch.no_grad():
        picking.weight.copy_(torch.eye(picking.out_channels).view_as(picking.weight))
    patches = rows(picking(images)).reshape(len(wanted), conv.in_channels, -1)
    for seen, fed in zip(groups.inputs, groups.outputs, strict=True):
        features = patches[:, list(seen)].reshape(len(wanted), -1)
        if conv.bias is not None:
            features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
        target = wanted[:, list(fed)]
        best = features @ np.linalg.lstsq(features, target, rcond=None)[0]
        left = ((got[:, list(fed)] - target) ** 2).mean()
        assert left == pytest.approx(((best - target) ** 2).mean(), rel=1e-6, abs=1e-12)


@given(cases(paddings=["zeros"]))
@properties
def test_a_dense_form_of_a_group_convolution_is_found_again(case):
    conv, groups = case
    hidden = dense_convolution(conv, conv.weight * inside(conv, groups), conv.bias)
    images = torch.randn(2, conv.in_channels, 7, 6, dtype=torch.float64)
    for moments in (None, measure_patch_moments(hidden, [""], [images])[""]):
        fitted = fit_grouped(hidden, groups, moments=moments)
        torch.testing.assert_close(fitted(images), hidden(images), rtol=1e-6, atol=1e-8)


def test_groups_of_neighbours_are_an_ordinary_group_convolution():
    conv = nn.Conv2d(4, 6, 3)
    before, grouped, after = fit_grouped(conv, contiguous_groups(conv, 2))
    assert grouped.groups == 2
    assert torch.equal(grouped.bias, conv.bias)
    assert (before.order.tolist(), after.order.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5])


def test_orders_are_saved_so_that_any_groups_of_the_same_sizes_can_be_loaded():
    conv = nn.Conv2d(4, 4, 1)
    fitted = fit_grouped(conv, ChannelGroups(((0, 2), (1, 3)), ((3, 1), (2, 0))))
    assert fitted.state_dict()["0.order"].tolist() == [0, 2, 1, 3]
    other = fit_grouped(nn.Conv2d(4, 4, 1), contiguous_groups(conv, 2))
    other.load_state_dict(fitted.state_dict())
    images = torch.randn(2, 4, 3, 3)
    assert torch.equal(other(images), fitted(images))
    assert torch.equal(other(images[0]), fitted(images[:1])[0])


def test_flags_are_kept_the_layer_untouched_and_no_random_number_drawn():
    conv = nn.Conv2d(4, 4, 3).eval()
    conv.weight.requires_grad_(False)
    before, state = copy.deepcopy(conv.state_dict()), torch.get_rng_state()
    fitted = fit_grouped(conv, ChannelGroups(((0, 2), (1, 3)), ((3, 1), (2, 0))))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in fitted.modules())
    assert [parameter.requires_grad for parameter in fitted.parameters()] == [False, True]
    with torch.no_grad():
        for parameter in fitted.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in conv.state_dict().items())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (ChannelGroups(((0, 1), (2, 2)), ((0, 1), (2, 3))), "input groups are"),
        (ChannelGroups(((0, 1), (2, 3)), ((0, 1, 2), (3,))), "output groups are"),
        (ChannelGroups(((0, 1), (2, 3)), ((0, 1, 2, 3),)), "output groups are"),
        (ChannelGroups(((0,), (1,), (2,)), ((0,), (1,), (2,))), "3 groups don't divide the 4 input"),
        (ChannelGroups((), ()), "0 groups don't divide the 4 input"),
    ],
)
def test_groups_that_do_not_fit_are_an_error(groups, message):
    with pytest.raises(ValueError, match=message):
        fit_grouped(nn.Conv2d(4, 4, 3), groups)


def test_moments_of_another_kernel_are_an_error():
    conv = nn.Conv2d(4, 4, 3)
    with pytest.raises(ValueError, match="moments of patches of 4 values"):
        fit_grouped(conv, contiguous_groups(conv, 2), moments=PatchMoments(torch.zeros(4), torch.eye(4)))
