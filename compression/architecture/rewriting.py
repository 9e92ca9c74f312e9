"""All convolutions of a trained model rewritten at once, and why some stay.

Example:
    rewriting = rewrite_grouped(model, 4, skip=("conv1",))
    print(rewriting.rewritten, rewriting.left)
    finetune(rewriting.model)
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import nn

from compression.architecture.channel_groups import best_groups
from compression.architecture.grouping import check_groups
from compression.architecture.grouping_fit import fit_grouped
from compression.architecture.patch_moments import PatchMoments
from compression.architecture.separable_fit import fit_separable, full_multiplier, separable_fit_parameters
from compression.cost import parameter_count
from compression.layers.replacement import kernel_area, replace_convolutions, replaceable_layers

Moments = Mapping[str, PatchMoments]


@dataclass(frozen=True)
class Rewriting:
    """A rewritten model, and what was rewritten in it.

    Attributes:
        model: The rewritten copy.
        rewritten: Names of the convolutions that were rewritten, as in `get_submodule` of the original.
        left: Why other layers with a weight of two dimensions or more stay, by name; by full name also other parameters
            of as many dimensions.
    """

    model: nn.Module
    rewritten: tuple[str, ...]
    left: dict[str, str]


def separable_convolutions(model: nn.Module, *, multiplier: int = 1, skip: Collection[str] = ()) -> list[str]:
    """List the convolutions that `rewrite_separable` rewrites, by name: it can use the moments of these."""
    return list(_sorted(model, skip, lambda conv: _not_separable(conv, multiplier))[0])


def rewrite_separable(
    model: nn.Module, *, multiplier: int = 1, moments: Moments | None = None, skip: Collection[str] = ()
) -> Rewriting:
    """Rewrite a model's dense convolutions, in a copy, as depthwise and pointwise ones; see `fit_separable`.

    Args:
        model: Stays as it is.
        multiplier: Depthwise filters for each input channel, from 1; fewer where fewer lose nothing.
        moments: Patch moments by layer, measured on the model as it is, of all layers that will be rewritten:
            `separable_convolutions` lists them.
        skip: Names of layers to leave as they are, or of modules that hold such.

    Raises:
        ValueError: If the multiplier is below 1, `skip` names no module, moments are missing, or a layer
            can't be fitted; the message names it.
    """
    if multiplier < 1:
        raise ValueError(f"multiplier is {multiplier}; it must be at least 1")
    convs, left = _sorted(model, skip, lambda conv: _not_separable(conv, multiplier))
    _check_moments(convs, moments)
    return _rewriting(
        model,
        convs,
        left,
        lambda name, conv: fit_separable(
            conv, multiplier=min(multiplier, full_multiplier(conv)), moments=moments[name] if moments else None
        ),
    )


def grouped_convolutions(model: nn.Module, groups: int, *, skip: Collection[str] = ()) -> list[str]:
    """List the convolutions that `rewrite_grouped` rewrites, by name: it can use the moments of these."""
    return list(_sorted(model, skip, lambda conv: _not_groupable(conv, groups))[0])


def rewrite_grouped(
    model: nn.Module, groups: int, *, moments: Moments | None = None, skip: Collection[str] = ()
) -> Rewriting:
    """Rewrite a model's dense convolutions, in a copy, as group convolutions.

    `best_groups` chooses the groups, `fit_grouped` their weights.

    Args:
        model: Stays as it is.
        groups: The number of groups, at least 2.
        moments: Patch moments by layer, measured on the model as it is, of all layers that will be rewritten:
            `grouped_convolutions` lists them.
        skip: Names of layers to leave as they are, or of modules that hold such.

    Raises:
        ValueError: If there are fewer than 2 groups, `skip` names no module, moments are missing, or a layer
            can't be fitted; the message names it.
    """
    if groups < 2:
        raise ValueError(f"groups is {groups}; it must be at least 2")
    convs, left = _sorted(model, skip, lambda conv: _not_groupable(conv, groups))
    _check_moments(convs, moments)

    def rewrite(name: str, conv: nn.Conv2d) -> nn.Module:
        of_layer = moments[name] if moments else None
        return fit_grouped(conv, best_groups(conv, groups, of_layer), moments=of_layer)

    return _rewriting(model, convs, left, rewrite)


def _sorted(
    model: nn.Module, skip: Collection[str], refusal: Callable[[nn.Conv2d], str | None]
) -> tuple[dict[str, nn.Conv2d], dict[str, str]]:
    layers, left = replaceable_layers(model, (nn.Conv2d,), skip)
    convs = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Conv2d)}
    refused = {name: reason for name, conv in convs.items() if (reason := refusal(conv)) is not None}
    return {name: conv for name, conv in convs.items() if name not in refused}, left | refused


def _not_separable(conv: nn.Conv2d, multiplier: int) -> str | None:
    if conv.groups != 1:
        return f"has {conv.groups} groups already"
    if kernel_area(conv) == 1:
        return "has a 1x1 kernel, which is pointwise already"
    separable = separable_fit_parameters(conv, min(multiplier, full_multiplier(conv)))
    dense = parameter_count(conv)
    return f"would grow from {dense} to {separable} parameters" if separable >= dense else None


def _not_groupable(conv: nn.Conv2d, groups: int) -> str | None:
    try:
        check_groups(conv, groups)
    except ValueError as error:
        return str(error)
    return None


def _check_moments(convs: Mapping[str, nn.Conv2d], moments: Moments | None) -> None:
    missing = [name for name in convs if moments is not None and name not in moments]
    if missing:
        raise ValueError(f"moments of {missing} are missing: measure them, or skip these layers")


def _rewriting(
    model: nn.Module,
    convs: Mapping[str, nn.Conv2d],
    left: dict[str, str],
    rewrite: Callable[[str, nn.Conv2d], nn.Module],
) -> Rewriting:
    def named(name: str, conv: nn.Conv2d) -> nn.Module | None:
        if name not in convs:
            return None
        try:
            return rewrite(name, conv)
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from error

    return Rewriting(replace_convolutions(model, named), tuple(convs), left)
