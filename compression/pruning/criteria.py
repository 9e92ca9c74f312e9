"""How much channels matter: a score for each unit of each group; units of low score go first.

scores = filter_norm(model, graph, order=2)
scores.values["layer1.0.conv1"]         # float64, one score for each unit of this group
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from compression.layers.evaluation_mode import evaluation_mode
from compression.pruning.graph import ChannelGraph, Group


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a graph's units.

    Attributes:
        values: Scores by name of the group, float64 of shape (units of the group,).
        unscored: Why a group has no scores, by its name; nothing of it is pruned.

    Raises:
        ValueError: If scores aren't one-dimensional or hold NaN; the message names the group.
    """

    values: Mapping[str, Tensor]
    unscored: Mapping[str, str]

    def __post_init__(self) -> None:
        for name, scores in self.values.items():
            if scores.ndim != 1 or bool(scores.isnan().any()):
                raise ValueError(
                    f"group {name!r}: scores of shape {tuple(scores.shape)} must be one-dimensional, no NaN"
                )


def signed_gamma(model: nn.Module, graph: ChannelGraph) -> Scores:
    """Score units by BatchNorm's gamma with its sign, the mean over a unit's BatchNorms.

    A large negative gamma counts as unimportant; `absolute_gamma` is what network slimming ranks by.
    """
    return _by_gamma(model, graph, lambda gamma: gamma)


def absolute_gamma(model: nn.Module, graph: ChannelGraph) -> Scores:
    """Score units by the magnitude of BatchNorm's gamma, the mean over a unit's BatchNorms.

    Network slimming ranks by it (Liu et al., 2017).
    """
    return _by_gamma(model, graph, torch.abs)


def gamma_penalty(model: nn.Module) -> Tensor:
    """Return the sum of |gamma| over all BatchNorm layers; a loss gets it times a weight, 1e-4 say.

    It draws channels towards the low scores of `absolute_gamma` (Liu et al., Network Slimming, 2017).

    Its gradient is the sign of gamma, and 0 where gamma is 0, which is the subgradient that network slimming steps by.

    Returns:
        A scalar of shape ().

    Raises:
        ValueError: If no BatchNorm layer has a gamma.
    """
    gammas = [norm.weight for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.affine]
    if not gammas:
        raise ValueError(f"{type(model).__name__} has no BatchNorm layer with a gamma to penalize")
    return torch.stack([gamma.abs().sum() for gamma in gammas]).sum()


def filter_norm(model: nn.Module, graph: ChannelGraph, order: float) -> Scores:
    """Score units by the norm of the filters that make them, the mean over a unit's filters (Li et al., 2017).

    Args:
        model: The model that the graph was made of.
        graph: The graph whose units are scored.
        order: 1 for the sum of magnitudes, 2 for the Euclidean norm.
    """
    norms = {
        name: torch.linalg.vector_norm(_filters(model.get_submodule(name)), order, dim=1)
        for name in {name for group in graph.groups for name in group.layers}
    }
    return _mean_over_units(graph, lambda group: ((name, norms[name]) for name in group.layers), "no filter")


def random_scores(graph: ChannelGraph, seed: int) -> Scores:
    """Draw uniform scores in [0, 1): the baseline that a criterion must beat."""
    generator = torch.Generator().manual_seed(seed)
    draws = {
        group.name: torch.rand(len(group.units), generator=generator, dtype=torch.float64) for group in graph.groups
    }
    return Scores(draws, {})


def taylor(
    model: nn.Module,
    graph: ChannelGraph,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Scores:
    """Score units by how much masking one changes the loss: the first-order estimate, squared.

    This is equation 8 of Molchanov et al. (2019).

    With a gate z = 1 on the unit's channels where its group ends, the score is (dL/dz)^2, averaged over batches; dL/dz
    is the sum of weight times gradient over the weights that read the channels. Computed in evaluation mode; training
    flags, gradients and BatchNorm statistics stay as they are.

    Args:
        model: The model that the graph was made of.
        graph: The graph whose units are scored.
        batches: Inputs and targets, on the model's device.
        loss: Maps the model's outputs and the targets to a scalar.

    Raises:
        ValueError: If there is no batch.
    """
    readers = [(name, axis) for name, axis in graph.layer_axes(model) if axis.reads and bool((axis.units >= 0).any())]
    names = {name for name, _ in readers}
    weights = {name: model.get_parameter(name).detach().requires_grad_() for name in names}
    squares = []
    with evaluation_mode(model):
        for inputs, targets in batches:
            with torch.enable_grad():
                value = loss(functional_call(model, weights, (inputs,)), targets)
            slopes = dict(
                zip(weights, torch.autograd.grad(value, list(weights.values()), materialize_grads=True), strict=True)
            )
            gates = torch.zeros(graph.unit_count + 1, dtype=torch.float64)
            for name, axis in readers:
                change = (weights[name].detach() * slopes[name]).double().movedim(axis.dim, 0).flatten(1).sum(1).cpu()
                gates.index_add_(0, axis.units % len(gates), change)
            squares.append(gates[:-1].square())
    if not squares:
        raise ValueError("no batch to compute gradients on; at least 1 is needed")
    means = torch.stack(squares).mean(0)
    return Scores({group.name: means[group.units.start : group.units.stop] for group in graph.groups}, {})


def relative_to_group(scores: Scores) -> Scores:
    """Divide scores by their group's mean magnitude, so that groups of different scale can be ranked together."""
    tiny = torch.finfo(torch.float64).tiny
    relative = {name: values / values.abs().mean().clamp(min=tiny) for name, values in scores.values.items()}
    return Scores(relative, scores.unscored)


def _by_gamma(model: nn.Module, graph: ChannelGraph, of: Callable[[Tensor], Tensor]) -> Scores:
    def gammas(group: Group) -> Iterator[tuple[str, Tensor]]:
        for name in group.norms:
            norm = model.get_submodule(name)
            if isinstance(norm, _BatchNorm) and norm.affine:
                yield name, of(norm.weight.detach().double())

    return _mean_over_units(graph, gammas, "no BatchNorm with a gamma")


def _filters(layer: nn.Module) -> Tensor:
    """Return the filters, float64 of shape (output channels, weights of each)."""
    weight = layer.get_parameter("weight").detach().double()
    if isinstance(layer, _ConvTransposeNd):
        weight = weight.view(layer.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    return weight.flatten(1)


def _mean_over_units(
    graph: ChannelGraph, parts: Callable[[Group], Iterable[tuple[str, Tensor]]], missing: str
) -> Scores:
    values, unscored = {}, {}
    for group in graph.groups:
        total = torch.zeros(graph.unit_count + 1, dtype=torch.float64)
        count = torch.zeros_like(total)
        for name, scores in parts(group):
            units = graph.layers[name].outputs % len(total)
            total.index_add_(0, units, scores.cpu())
            count.index_add_(0, units, torch.ones_like(total[units]))
        total, count = (part[group.units.start : group.units.stop] for part in (total, count))
        if bool((count > 0).all()):
            values[group.name] = total / count
        else:
            unscored[group.name] = f"{missing} for {int((count == 0).sum())} of its {len(group.units)} units"
    return Scores(values, unscored)
