"""Activations with the numbers (ids) of channels in place of values: which channel does each entry belong to?

    along(torch.tensor([7, 8, 9]), (2, 3, 4, 4), dim=1)     # two images of 4 x 4 pixels; their channels are 7, 8 and 9

Operations that only move entries (`view`, `permute`, `cat`) are run on the ids as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Channels:
    """What stands for an activation while a model is traced.

    Attributes:
        ids: int64 of the activation's shape: the channel that each entry belongs to. A channel that can't be cut has a
            negative id. Dimensions along which all ids are equal are expanded, not stored.
    """

    ids: Tensor


def uniform(shape: Sequence[int], number: int) -> Channels:
    """Make channels that are all the same one."""
    return Channels(torch.tensor(number).expand(tuple(shape)))


def along(ids: Tensor, shape: Sequence[int], dim: int) -> Channels:
    """Make channels that differ along one dimension only: ids of shape (shape[dim],)."""
    view = [1] * len(shape)
    view[dim] = len(ids)
    return Channels(ids.view(view).expand(*shape))


def stored(ids: Tensor) -> Tensor:
    """Narrow every expanded dimension of ids to one entry; nothing is copied."""
    for dim, stride in enumerate(ids.stride()):
        if stride == 0 and ids.shape[dim] > 1:
            ids = ids.narrow(dim, 0, 1)
    return ids


def slices(ids: Tensor, dim: int) -> Tensor:
    """Return ids as a matrix, of which each row is a slice along a dimension."""
    return ids.movedim(dim, 0).unsqueeze(1).flatten(1)


def varies(ids: Tensor, dim: int) -> bool:
    """Tell whether different channels lie along a dimension."""
    ids = stored(ids)
    return ids.shape[dim] > 1 and bool((ids != ids.narrow(dim, 0, 1)).any())


def varying_dims(ids: Tensor) -> list[int]:
    """Return the dimensions along which different channels lie."""
    return [dim for dim in range(ids.ndim) if varies(ids, dim)]


def concatenate(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate as `torch.cat`, but leave dimensions expanded that are expanded in all parts."""
    shared = [
        axis
        for axis in range(parts[0].ndim)
        if axis != dim and all(part.stride(axis) == 0 or part.shape[axis] == 1 for part in parts)
    ]
    shape = [parts[0].shape[axis] if axis in shared else -1 for axis in range(parts[0].ndim)]
    for axis in shared:
        parts = [part.narrow(axis, 0, 1) for part in parts]
    return torch.cat(list(parts), dim).expand(shape)
