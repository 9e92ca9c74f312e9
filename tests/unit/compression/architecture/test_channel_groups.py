import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import nn

from compression.architecture.channel_groups import ChannelGroups, best_groups, contiguous_groups
from compression.architecture.patch_moments import PatchMoments

properties = settings(deadline=None, max_examples=25)


def block_diagonal(seed, groups, inputs, outputs, kernel=1):
    """A convolution that is block-diagonal under hidden orders of its channels, and the groups it hides."""
    random = np.random.default_rng(seed)
    sides = [random.permutation(groups * size).reshape(groups, size) for size in (inputs, outputs)]
    conv = nn.Conv2d(groups * inputs, groups * outputs, kernel, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.zero_()
        for seen, fed in zip(*sides, strict=True):
            size = (outputs, inputs, kernel, kernel)
            signs = random.choice([-1, 1], size)
            conv.weight[fed[:, None], seen] = torch.tensor(signs * random.uniform(0.5, 2, size))
    inputs_of, outputs_of = (map(tuple, np.sort(side).tolist()) for side in sides)
    return conv, set(zip(inputs_of, outputs_of, strict=True))


def pairs(groups):
    return set(zip(groups.inputs, groups.outputs, strict=True))


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 3]))
@properties
def test_hidden_blocks_are_found(seed, groups, inputs, outputs, kernel):
    conv, hidden = block_diagonal(seed, groups, inputs, outputs, kernel)
    assert pairs(best_groups(conv, groups)) == hidden


def test_hidden_blocks_are_found_with_moments_too():
    conv, hidden = block_diagonal(0, 3, 2, 4, kernel=3)
    root = torch.randn(54, 54, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    second = root @ root.T + 100 * torch.eye(54)
    moments = PatchMoments(torch.zeros(54, dtype=torch.float64), second)
    assert pairs(best_groups(conv, 3, moments)) == hidden


def splits(channels, groups):
    """All ways to put channels in groups of equal size, the groups in order."""
    if groups == 0:
        yield ()
        return
    for first in itertools.combinations(channels, len(channels) // groups):
        for rest in splits([channel for channel in channels if channel not in first], groups - 1):
            yield (first, *rest)


def kept_energy(energy, inputs, outputs):
    return sum(energy[np.ix_(fed, seen)].sum() for seen, fed in zip(inputs, outputs, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_no_other_outputs_fit_the_inputs_better_nor_the_other_way_round(seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(6, 6, 3)
    energy = conv.weight.detach().double().square().sum(dim=(2, 3)).numpy()
    found = best_groups(conv, 3)
    kept = kept_energy(energy, found.inputs, found.outputs)
    choices = list(splits(list(range(6)), 3))
    assert kept == pytest.approx(max(kept_energy(energy, found.inputs, outputs) for outputs in choices))
    assert kept == pytest.approx(max(kept_energy(energy, inputs, found.outputs) for inputs in choices))
    neighbours = contiguous_groups(conv, 3)
    assert kept > kept_energy(energy, neighbours.inputs, neighbours.outputs)


@given(
    st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 8), st.integers(1, 8), st.sampled_from([0, 1, 3, 10**9])
)
@properties
def test_an_assignment_solver_finds_no_better_groups_for_either_side(seed, groups, inputs, outputs, largest):
    random = np.random.default_rng(seed)
    conv = nn.Conv2d(groups * inputs, groups * outputs, 1, dtype=torch.float64)
    with torch.no_grad():
        # Small numbers make equal sums; some channels are stronger than others, so that all want one group.
        conv.weight.copy_(torch.tensor(random.integers(0, largest + 1, conv.weight.shape)))
        conv.weight[random.integers(groups * outputs, size=outputs)] *= 3
        conv.weight[:, random.integers(groups * inputs, size=inputs)] *= 2
    energy = conv.weight.detach().square().numpy()[:, :, 0, 0]
    found = best_groups(conv, groups)
    kept = kept_energy(energy, found.inputs, found.outputs)
    for rows, sides, places in ((energy, found.inputs, outputs), (energy.T, found.outputs, inputs)):
        gains = np.stack([rows[:, side].sum(axis=1) for side in sides], axis=1).repeat(places, axis=1)
        assert kept == pytest.approx(gains[linear_sum_assignment(gains, maximize=True)].sum(), rel=1e-12)


def test_it_is_never_far_from_the_best_of_all():
    shortfalls = []
    for seed in range(6):
        torch.manual_seed(seed)
        conv = nn.Conv2d(4, 6, 1)
        energy = conv.weight.detach().double().square().sum(dim=(2, 3)).numpy()
        found = best_groups(conv, 2)
        best = max(kept_energy(energy, a, b) for a in splits(list(range(4)), 2) for b in splits(list(range(6)), 2))
        shortfalls.append(1 - kept_energy(energy, found.inputs, found.outputs) / best)
    assert max(shortfalls) < 0.1
    assert min(shortfalls) < 1e-12


def explained(conv, second, inputs, outputs):
    """What regressions of each group's outputs on its inputs' patches leave, in all."""
    kernel = conv.weight.detach().flatten(1).numpy()
    area = conv.weight[0, 0].numel()
    root = np.linalg.cholesky(second)
    left = 0
    for seen, fed in zip(inputs, outputs, strict=True):
        patches = (np.array(seen)[:, None] * area + np.arange(area)).ravel()
        wanted = (kernel[list(fed)] @ root).T
        solution = np.linalg.lstsq(root[patches].T, wanted, rcond=None)[0]
        left += ((root[patches].T @ solution - wanted) ** 2).sum()
    return left


@pytest.mark.parametrize("seed", range(3))
def test_with_moments_no_other_outputs_are_explained_better_by_the_inputs(seed):
    random = np.random.default_rng(seed)
    conv = nn.Conv2d(4, 6, 2, bias=False, dtype=torch.float64)
    root = random.normal(size=(16, 16))
    second = root @ root.T
    moments = PatchMoments(torch.zeros(16, dtype=torch.float64), torch.tensor(second))
    found = best_groups(conv, 2, moments)
    least = min(explained(conv, second, found.inputs, outputs) for outputs in splits(list(range(6)), 2))
    assert explained(conv, second, found.inputs, found.outputs) == pytest.approx(least, rel=1e-8)


@given(st.integers(0, 2**31), st.sampled_from([(4, 4, 2), (6, 6, 3), (8, 8, 2)]), st.sampled_from([1, 2]))
@properties
def test_with_moments_it_is_never_worse_than_neighbours_nor_than_without(seed, sizes, kernel):
    inputs, outputs, count = sizes
    random = np.random.default_rng(seed)
    conv = nn.Conv2d(inputs, outputs, kernel, bias=False, dtype=torch.float64)
    patch = inputs * kernel**2
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(random.normal(size=conv.weight.shape)))
    root = random.normal(size=(patch, patch))
    second = root @ root.T
    moments = PatchMoments(torch.zeros(patch, dtype=torch.float64), torch.tensor(second))
    found, *others = best_groups(conv, count, moments), contiguous_groups(conv, count), best_groups(conv, count)
    left = explained(conv, second, found.inputs, found.outputs)
    assert all(left <= explained(conv, second, each.inputs, each.outputs) * (1 + 1e-6) for each in others)


def test_neighbours_are_those_of_an_ordinary_group_convolution():
    expected = ChannelGroups(((0, 1), (2, 3)), ((0, 1, 2), (3, 4, 5)))
    assert contiguous_groups(nn.Conv2d(4, 6, 3), 2) == expected


def test_a_kernel_of_zeros_has_groups_too():
    conv = nn.Conv2d(4, 4, 3)
    nn.init.zeros_(conv.weight)
    found = best_groups(conv, 2)
    assert sorted(itertools.chain(*found.inputs)) == sorted(itertools.chain(*found.outputs)) == [0, 1, 2, 3]


@pytest.mark.parametrize("attempt", [best_groups, contiguous_groups])
def test_groups_that_do_not_divide_the_channels_are_an_error(attempt):
    with pytest.raises(ValueError, match="3 groups don't divide the 4 input and 6 output channels"):
        attempt(nn.Conv2d(4, 6, 3), 3)
    with pytest.raises(ValueError, match="has 2 groups"):
        attempt(nn.Conv2d(4, 6, 3, groups=2), 2)


def test_moments_of_another_kernel_are_an_error():
    with pytest.raises(ValueError, match="moments of patches of 4 values"):
        best_groups(nn.Conv2d(4, 6, 3), 2, PatchMoments(torch.zeros(4), torch.eye(4)))
