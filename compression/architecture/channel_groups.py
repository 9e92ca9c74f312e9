"""Which channels of a convolution belong together, for a group convolution that loses little.

Example:
    groups = best_groups(conv, 4)
    fitted = fit_grouped(conv, groups)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from compression.architecture.grouping import check_groups
from compression.architecture.patch_moments import PatchMoments
from compression.layers.replacement import finite_weight

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_OTHER_STARTS = 8
_PRICES_A_GROUP = 8


@dataclass(frozen=True)
class ChannelGroups:
    """The channels of each group, as indices. Every input channel and every output channel is in one group.

    Attributes:
        inputs: The input channels of each group, as many in each.
        outputs: The output channels of each group, as many in each.
    """

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


def contiguous_groups(conv: nn.Conv2d, groups: int) -> ChannelGroups:
    """Return the groups of an ordinary group convolution: neighbouring channels together.

    Raises:
        ValueError: If `conv` is grouped, or `groups` doesn't divide both its channel counts.
    """
    check_groups(conv, groups)
    inputs, outputs = (np.arange(count) * groups // count for count in (conv.in_channels, conv.out_channels))
    return _groups(inputs, outputs, groups)


def best_groups(conv: nn.Conv2d, groups: int, moments: PatchMoments | None = None) -> ChannelGroups:
    """Choose groups of channels that keep much of a convolution's energy within them.

    Finding the best groups is a hard problem (balanced biclustering). But given the groups of the inputs, the best
    groups of the outputs are an assignment problem, which is solved exactly; so are those of the inputs given the
    outputs'. The two take turns until nothing improves. This is done from several starts (neighbouring channels, inputs
    that feed the same outputs, some random ones), and the best end is taken. A kernel that is block-diagonal in some
    order of its channels, and full inside of its blocks, is found as such.

    Args:
        conv: Ungrouped; stays as it is.
        groups: Divides both channel counts.
        moments: Moments of the patches that `conv` sees. With them an input channel counts by what it adds to the
            outputs, and the search is compared with the one without them: of all groups of inputs that either starts
            from or ends in, those are taken with which `fit_grouped` loses least, given these moments.

    Raises:
        ValueError: If `conv` is grouped, `groups` doesn't divide both its channel counts, the moments are not
            of this kernel, or a weight is not finite.
    """
    check_groups(conv, groups)
    if moments is not None:
        moments.check(conv)
    kernel = finite_weight(conv).flatten(2)
    energy = _energy(kernel, None)
    nearest = max(_ends(energy, groups), key=lambda end: _sum_of(_sums(energy, end[0], groups), end[1]))
    if moments is None:
        return _groups(*nearest, groups)
    matrix = moments.error_matrix(conv)
    added = _energy(kernel, matrix)
    met = np.unique([nearest[0], *_starts(added, groups), *(inputs for inputs, _ in _ends(added, groups))], axis=0)
    gains = [_output_gains(kernel, matrix, inputs, groups) for inputs in met]
    found = [(inputs, _assigned(gain, groups), gain) for inputs, gain in zip(met, gains, strict=True)]
    inputs, outputs, _ = max(found, key=lambda end: _sum_of(end[2], end[1]))
    return _groups(inputs, outputs, groups)


def _ends(energy: Floats, groups: int) -> list[tuple[Indices, Indices]]:
    """Return the groups of the inputs and of the outputs that alternation ends in, from each start."""
    return [_alternated(energy, start, groups) for start in _starts(energy, groups)]


def _energy(kernel: Tensor, matrix: Tensor | None) -> Floats:
    """Return (outputs, inputs): what an input adds to the square of an output, as if inputs were uncorrelated."""
    if matrix is None:
        return _array(kernel.square().sum(dim=2))
    _, inputs, area = kernel.shape
    blocks = torch.stack([matrix.view(inputs, area, inputs, area)[i, :, i] for i in range(inputs)])
    return _array(torch.einsum("oik,ikl,oil->oi", kernel, blocks, kernel).clamp(min=0))


def _output_gains(kernel: Tensor, matrix: Tensor, inputs: Indices, groups: int) -> Floats:
    """Return (outputs, groups): how much of an output's square a regression on a group's patches explains."""
    area = kernel.shape[2]
    products = kernel.flatten(1) @ matrix
    gains = []
    for group in range(groups):
        seen = patch_indices(np.flatnonzero(inputs == group).tolist(), area)
        inverse = torch.linalg.pinv(matrix[seen][:, seen], rtol=1e-12, hermitian=True)
        gains.append(((products[:, seen] @ inverse) * products[:, seen]).sum(dim=1))
    return _array(torch.stack(gains, dim=1))


def patch_indices(channels: Sequence[int], area: int) -> Tensor:
    """Return the indices of channels' values in a flattened patch of (channels, area)."""
    return (torch.tensor(channels)[:, None] * area + torch.arange(area)).flatten()


def _starts(energy: Floats, groups: int) -> Iterator[Indices]:
    """Yield groups of the inputs to start from, each as (inputs,) indices of groups."""
    inputs = energy.shape[1]
    yield np.arange(inputs) * groups // inputs
    columns = energy / np.maximum(np.linalg.norm(energy, axis=0), np.finfo(np.float64).tiny)
    likeness = columns.T @ columns
    found = np.full(inputs, -1)
    for group in range(groups):
        free = np.flatnonzero(found < 0)
        first = free[np.argmax(energy[:, free].sum(axis=0))]
        nearest = free[np.argsort(-likeness[first, free], kind="stable")]
        found[first] = group
        found[nearest[nearest != first][: inputs // groups - 1]] = group
    yield found
    # Alternation ends in the nearest of many optima; which starts are tried depends on the shape alone.
    random = np.random.default_rng(0)
    for _ in range(_OTHER_STARTS):
        yield random.permutation(np.arange(inputs) * groups // inputs)


def _alternated(energy: Floats, inputs: Indices, groups: int) -> tuple[Indices, Indices]:
    gains = _sums(energy, inputs, groups)
    outputs = _assigned(gains, groups)
    while True:
        better_inputs = _assigned(_sums(energy.T, outputs, groups), groups)
        better_gains = _sums(energy, better_inputs, groups)
        better_outputs = _assigned(better_gains, groups)
        if _sum_of(better_gains, better_outputs) <= _sum_of(gains, outputs) * (1 + 1e-12):
            return inputs, outputs
        inputs, gains, outputs = better_inputs, better_gains, better_outputs


def _sums(energy: Floats, columns: Indices, groups: int) -> Floats:
    """Return (rows, groups): the energy of each row in each group of columns."""
    return energy @ np.eye(groups)[columns]


def _assigned(gains: Floats, groups: int) -> Indices:
    """Return the group of each row, as many rows in each, with the largest sum of gains."""
    places = len(gains) // groups
    # A price that each row of a group pays lowers all sums alike, as groups are of one size. Where at some prices each
    # row can have its best group, no other assignment is better; near such prices the solver has little left to do.
    priced = gains.copy()
    for _ in range(_PRICES_A_GROUP * min(groups, places)):
        chosen = priced.argmax(axis=1)
        surplus = np.bincount(chosen, minlength=groups) - places
        if not surplus.any():
            return np.asarray(chosen, dtype=np.int64)
        group = np.abs(surplus).argmax()
        margins = priced[:, group] - np.delete(priced, group, axis=1).max(axis=1)
        priced[:, group] -= np.partition(margins, (-places - 1, -places))[[-places - 1, -places]].mean()
    _, chosen = linear_sum_assignment(np.repeat(priced, places, axis=1), maximize=True)
    return np.asarray(chosen, dtype=np.int64) // places


def _sum_of(gains: Floats, chosen: Indices) -> float:
    """Sum the gains of the rows in their groups."""
    return float(np.take_along_axis(gains, chosen[:, None], axis=1).sum())


def _groups(inputs: Indices, outputs: Indices, groups: int) -> ChannelGroups:
    sides = (tuple(tuple(np.flatnonzero(side == g).tolist()) for g in range(groups)) for side in (inputs, outputs))
    return ChannelGroups(*sides)


def _array(values: Tensor) -> Floats:
    return values.cpu().numpy()
