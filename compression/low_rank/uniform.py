"""All layers of a model factorized at one share of their full ranks, which shapes alone decide.

Example:
    small = factorize_to_budget(model, parameter_count(model) // 2, skip=("fc",))
"""

import bisect
import math
from collections.abc import Collection
from fractions import Fraction

from torch import nn

from compression.cost import parameter_count
from compression.layers.replacement import replace_layers
from compression.low_rank.factorization import Factorizable, Factorization, full_ranks, group_count, weight_count
from compression.low_rank.factorizing import factorizable_layers, factorize_layer


def factorize_to_budget(model: nn.Module, parameter_budget: int, *, skip: Collection[str] = ()) -> nn.Module:
    """Return a copy of the model, its layers factorized at one share of their full ranks.

    The share is the largest whose parameter count is not above the budget. A layer gets the ranks
    max(1, floor(share * full)), and stays dense where that would not make it smaller. They depend on the
    shapes alone: another model of the same architecture gets the same form, to load these weights into. A layer whose
    weight the model's code reads must be skipped; see `factorize`.

    Args:
        model: Its Linear and ungrouped Conv2d layers are factorized; stays as it is.
        parameter_budget: Parameters of the whole model.
        skip: Names, as in `get_submodule`, of layers to leave dense, or of modules that hold such.

    Raises:
        ValueError: If `skip` names no module, or even rank 1 everywhere is above the budget; the message
            then gives the smallest count.
    """
    layers = _ungrouped(model, skip)
    dense = parameter_count(model)

    def count(share: Fraction) -> int:
        return dense - sum(_saving(layer, share) for layer in layers.values())

    shares = _distinct_shares(layers.values())
    fitting = bisect.bisect_right(shares, parameter_budget, key=count)
    if not fitting:
        raise ValueError(f"budget of {parameter_budget} parameters is below {count(shares[0])}, the smallest")
    share = shares[fitting - 1]

    def rewrite(name: str, module: nn.Module) -> nn.Module | None:
        layer = layers.get(name)
        if layer is None or not _saving(layer, share):
            return None
        return _factorized(name, layer, _at(layer, share))

    return replace_layers(model, rewrite)


def _ungrouped(model: nn.Module, skip: Collection[str]) -> dict[str, Factorizable]:
    return {name: layer for name, layer in factorizable_layers(model, skip).items() if group_count(layer) == 1}


def _full_ranks(layer: Factorizable) -> tuple[int, ...]:
    is_matrix = isinstance(layer, nn.Linear) or layer.kernel_size == (1, 1)
    return full_ranks(layer, "svd" if is_matrix else "tucker")


def _distinct_shares(layers: Collection[Factorizable]) -> list[Fraction]:
    fulls = {full for layer in layers for full in _full_ranks(layer)} or {1}
    return sorted({Fraction(rank, full) for full in fulls for rank in range(1, full + 1)})


def _at(layer: Factorizable, share: Fraction) -> Factorization:
    ranks = tuple(max(1, math.floor(share * full)) for full in _full_ranks(layer))
    return Factorization("svd" if len(ranks) == 1 else "tucker", ranks)


def _saving(layer: Factorizable, share: Fraction) -> int:
    return max(0, layer.weight.numel() - weight_count(layer, _at(layer, share)))


def _factorized(name: str, layer: Factorizable, factorization: Factorization) -> nn.Sequential:
    try:
        return factorize_layer(layer, factorization)
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error
