"""What a layer is factorized into, its bounds and its cost.

Example:
    half = Factorization("spatial", (full_ranks(conv, "spatial")[0] // 2,))
    print(weight_count(conv, half), "of", conv.weight.numel())
    factors = factorize_layer(conv, half)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

Factorizable = nn.Linear | nn.Conv2d
Scheme = Literal["svd", "spatial", "tucker", "cp"]
CountT = TypeVar("CountT", int, npt.NDArray[np.int64])


@dataclass(frozen=True)
class Factorization:
    """One way to factorize a layer; in a grouped convolution, each group.

    Attributes:
        scheme: "svd": two thinner layers, for a Linear or a 1x1 convolution. "spatial": a k x 1 and a 1 x k
            convolution. "tucker": 1x1, a smaller k x k core, 1x1. "cp": 1x1, a depthwise k x 1 and 1 x k, 1x1.
        ranks: (rank,), or (r_out, r_in) for "tucker".
    """

    scheme: Scheme
    ranks: tuple[int, ...]


def schemes_of(layer: Factorizable) -> tuple[Scheme, ...]:
    """Return the schemes that a layer can have."""
    is_matrix = isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1)
    return ("svd",) if is_matrix else ("spatial", "tucker", "cp")


def full_ranks(layer: Factorizable, scheme: Scheme) -> tuple[int, ...]:
    """Return the ranks at which a factorized layer equals the dense one; larger ones are of no use.

    For "cp" that is min(O, I) k^2, where a decomposition is sure to exist; a smaller one may.

    Raises:
        ValueError: If the layer can't have the scheme.
    """
    if scheme not in schemes_of(layer):
        raise ValueError(f"{layer} can't have the scheme {scheme!r}; it can have {' or '.join(schemes_of(layer))}")
    outputs, inputs, height, width = group_shape(layer)
    if scheme == "svd":
        return (min(outputs, inputs),)
    if scheme == "spatial":
        return (min(inputs * height, outputs * width),)
    if scheme == "tucker":
        return min(outputs, inputs * height * width), min(inputs, outputs * height * width)
    return (min(outputs, inputs) * height * width,)


def weight_count(layer: Factorizable, factorization: Factorization) -> int:
    """Count the weights of the factorized layer, without its bias, which stays as large as it was.

    Raises:
        ValueError: If the layer can't have the factorization.
    """
    check_factorization(layer, factorization)
    return sum(factor_sizes(layer, factorization.scheme, factorization.ranks))


def factor_sizes(layer: Factorizable, scheme: Scheme, ranks: Sequence[CountT]) -> list[CountT]:
    """Count the weights of each factor, in the order in which the factors run.

    Args:
        layer: The layer to factorize.
        scheme: A scheme that it can have.
        ranks: The ranks of the scheme: integers, or arrays of many.
    """
    outputs, inputs, height, width = group_shape(layer)
    groups = group_count(layer)
    first, last = ranks[0], ranks[-1]
    if scheme == "svd":
        return [first * (groups * inputs), first * (groups * outputs)]
    if scheme == "spatial":
        return [first * (groups * inputs * height), first * (groups * outputs * width)]
    if scheme == "tucker":
        return [last * (groups * inputs), first * last * (groups * height * width), first * (groups * outputs)]
    return [first * (groups * size) for size in (inputs, height, width, outputs)]


def group_shape(layer: Factorizable) -> tuple[int, int, int, int]:
    """Return the outputs and inputs of one group, and the kernel's height and width."""
    groups = group_count(layer)
    height, width = (1, 1) if isinstance(layer, nn.Linear) else layer.kernel_size
    return layer.weight.shape[0] // groups, layer.weight.shape[1], height, width


def group_count(layer: Factorizable) -> int:
    """Return the number of groups of channels that don't see each other."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def check_factorization(layer: Factorizable, factorization: Factorization) -> None:
    """Check that a layer can have a scheme and its ranks.

    Raises:
        ValueError: If the scheme is not for such a layer, or a rank is out of its bounds.
    """
    bounds = full_ranks(layer, factorization.scheme)
    names = ("rank",) if len(bounds) == 1 else ("r_out", "r_in")
    if len(factorization.ranks) != len(bounds):
        raise ValueError(f"{layer} takes {' and '.join(names)}; got ranks {factorization.ranks}")
    for name, rank, bound in zip(names, factorization.ranks, bounds, strict=True):
        if not 1 <= rank <= bound:
            raise ValueError(f"{name} is {rank}; from 1 to {bound} is possible for {layer}")
