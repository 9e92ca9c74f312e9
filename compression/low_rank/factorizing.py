"""Any layers of a model factorized at once, and why others stay.

Example:
    plan = {"conv2": Factorization("tucker", (32, 16)), "fc": Factorization("svd", (8,))}
    small = factorize(model, plan)
    print(left_dense(model))
"""

from collections.abc import Collection, Mapping

from torch import nn

from compression.layers.replacement import replace_layers, replaceable_layers
from compression.low_rank.cp import factorize_cp
from compression.low_rank.factorization import Factorizable, Factorization, check_factorization
from compression.low_rank.svd import factorize_linear, factorize_pointwise, factorize_spatial
from compression.low_rank.tucker import factorize_tucker

Plan = dict[str, Factorization]
"""What becomes of which layer, by name as in `get_submodule`; a layer that is not in it stays dense."""


def factorize(model: nn.Module, plan: Mapping[str, Factorization]) -> nn.Module:
    """Return a copy of the model with the layers of a plan factorized.

    Args:
        model: Stays as it is.
        plan: What becomes of which layer. One whose weight the model's code reads (`self.fc.weight`) must not be in
            it: its factors have none, and the copy then raises an AttributeError that names it.

    Raises:
        ValueError: If a name is no layer's that can be factorized, or a layer can't have its factorization;
            the message names it.
    """
    layers, left = factorizable_layers(model), left_dense(model)
    for name in plan:
        if name not in layers:
            raise ValueError(f"layer {name!r} can't be factorized: it {left.get(name, 'has no weight to factorize')}")

    def rewrite(name: str, module: nn.Module) -> nn.Module | None:
        if name not in plan:
            return None
        try:
            return factorize_layer(layers[name], plan[name])
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error

    return replace_layers(model, rewrite)


def factorize_layer(layer: Factorizable, factorization: Factorization) -> nn.Sequential:
    """Factorize one layer; see `svd`, `tucker` and `cp`.

    Raises:
        ValueError: If the layer can't have the factorization, or a weight is not finite.
    """
    check_factorization(layer, factorization)
    ranks = factorization.ranks
    if isinstance(layer, nn.Linear):
        return factorize_linear(layer, ranks[0])
    if factorization.scheme == "svd":
        return factorize_pointwise(layer, ranks[0])
    if factorization.scheme == "spatial":
        return factorize_spatial(layer, ranks[0])
    if factorization.scheme == "tucker":
        return factorize_tucker(layer, (ranks[0], ranks[1]))
    return factorize_cp(layer, ranks[0])


def factorizable_layers(model: nn.Module, skip: Collection[str] = ()) -> dict[str, Factorizable]:
    """Return the layers of a model that can be factorized, by name: `Linear` and `Conv2d`, grouped or not.

    Args:
        model: Looked through, and left as it is.
        skip: Names, as in `get_submodule`, of layers to leave out, or of modules that hold such.

    Raises:
        ValueError: If `skip` names no module.
    """
    layers, _ = replaceable_layers(model, (nn.Linear, nn.Conv2d), skip)
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear | nn.Conv2d)}


def left_dense(model: nn.Module, skip: Collection[str] = ()) -> dict[str, str]:
    """Tell, by name, why other layers with a weight of two dimensions or more can't be factorized.

    Parameters of as many dimensions that are no layer's weight, such as an LSTM's, are listed by their full names.

    Args:
        model: Looked through, and left as it is.
        skip: As for `factorizable_layers`.

    Raises:
        ValueError: If `skip` names no module.
    """
    return replaceable_layers(model, (nn.Linear, nn.Conv2d), skip)[1]
