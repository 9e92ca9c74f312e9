"""Which layers of a model are factorized, how, and at which ranks, from their singular values.

Example:
    plan = plan_for_parameters(model, parameter_count(model) // 2, skip=("conv1",))
    plan = plan_for_energy(model, 0.95, schemes=("svd", "tucker"))
    small = factorize(model, plan)
"""

from collections.abc import Collection, Mapping

import numpy as np
from torch import nn

from compression.cost import multiply_accumulates, parameter_count
from compression.low_rank.candidates import Candidates, candidates, measure_positions
from compression.low_rank.factorization import Scheme
from compression.low_rank.factorizing import Plan, factorizable_layers

SCHEMES: tuple[Scheme, ...] = ("svd", "spatial", "tucker")
"""Those whose loss is known without fitting; of several that a layer can have, the better one is taken."""


def plan_for_energy(
    model: nn.Module, share: float, *, schemes: Collection[Scheme] = SCHEMES, skip: Collection[str] = ()
) -> Plan:
    """Plan the fewest weights with which each layer keeps a share of its energy (squared Frobenius norm).

    Args:
        model: Stays as it is.
        share: The least share to keep, above 0 and at most 1.
        schemes: The schemes to choose from for each layer.
        skip: Names, as in `get_submodule`, of layers to leave dense, or of modules that hold such.

    Returns:
        Without the layers that nothing makes smaller.

    Raises:
        ValueError: If the share is out of its bounds, `skip` names no module, or a weight is not finite.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1")
    plan: Plan = {}
    for name, layer in factorizable_layers(model, skip).items():
        found = candidates(layer, schemes)
        # A share of 1 is kept by full ranks, whose loss is a rounding error.
        enough = found.lost <= 1 - share + 1e-12
        order = np.lexsort((found.lost, np.where(enough, found.costs, np.iinfo(np.int64).max)))
        if (chosen := found.at(int(order[0]))) is not None:
            plan[name] = chosen
    return plan


def plan_for_parameters(
    model: nn.Module, budget: int, *, schemes: Collection[Scheme] = SCHEMES, skip: Collection[str] = ()
) -> Plan:
    """Plan for a budget of parameters: the least energy is lost, summed over the layers' shares.

    Of each layer the share counts, not the energy: what follows, as a BatchNorm, undoes its scale. See
    `plan_for_multiply_accumulates` for how near to the optimum it comes.

    Args:
        model: Stays as it is.
        budget: Parameters of the whole model.
        schemes: The schemes to choose from for each layer.
        skip: As in `plan_for_energy`.

    Raises:
        ValueError: If no plan is within the budget; the message then gives the smallest count.
    """
    layers = factorizable_layers(model, skip)
    found = {name: candidates(layer, schemes) for name, layer in layers.items()}
    return _allocated(found, parameter_count(model), budget, "parameters")


def plan_for_multiply_accumulates(
    model: nn.Module,
    budget: int,
    input_shape: tuple[int, ...],
    *,
    schemes: Collection[Scheme] = SCHEMES,
    skip: Collection[str] = (),
) -> Plan:
    """Plan for a budget of multiply-accumulates: the least energy is lost, summed over the layers' shares.

    From the cheapest plan, the steps along the lower convex hull of each layer's (cost, loss) are taken in the
    order of what they win for their cost, each if it still fits. Up to the first that does not fit, no plan of
    that cost loses less (Everett, 1963), and what that step would have won bounds the distance to the optimum.

    Args:
        model: Takes one batch of floating-point numbers; stays as it is.
        budget: Multiply-accumulates of the whole model, for one input; see `compression.cost`.
        input_shape: Shape of one input, without the batch: (channels, height, width) for images.
        schemes: The schemes to choose from for each layer.
        skip: As in `plan_for_energy`.

    Raises:
        ValueError: If no plan is within the budget; the message then gives the smallest count.
    """
    dense = multiply_accumulates(model, input_shape)
    layers = factorizable_layers(model, skip)
    positions = measure_positions(model, layers, input_shape)
    found = {name: candidates(layer, schemes, positions[name]) for name, layer in layers.items()}
    return _allocated(found, dense, budget, "multiply-accumulates")


def _allocated(found: Mapping[str, Candidates], dense: int, budget: int, unit: str) -> Plan:
    hulls = {name: _hull(ways) for name, ways in found.items()}
    # The dense layer is the first candidate.
    room = budget - dense + sum(int(ways.costs[0] - ways.costs[hulls[name][0]]) for name, ways in found.items())
    if room < 0:
        raise ValueError(f"budget of {budget} {unit} is below {budget - room}, the smallest")
    chosen = dict.fromkeys(found, 0)
    full = set[str]()
    for _, name, step in sorted(_steps(found, hulls)):
        ways, hull = found[name], hulls[name]
        cost = int(ways.costs[hull[step]] - ways.costs[hull[step - 1]])
        if name in full or cost > room:
            full.add(name)
            continue
        chosen[name], room = step, room - cost
    plan = {name: ways.at(hulls[name][chosen[name]]) for name, ways in found.items()}
    return {name: way for name, way in plan.items() if way is not None}


def _steps(found: Mapping[str, Candidates], hulls: Mapping[str, list[int]]) -> list[tuple[float, str, int]]:
    """Return each step along a hull as (change of loss for its cost, layer, number)."""
    steps = []
    for name, ways in found.items():
        costs, lost = ways.costs[hulls[name]], ways.lost[hulls[name]]
        slopes = np.diff(lost) / np.diff(costs)
        steps += [(float(slope), name, number) for number, slope in enumerate(slopes, start=1)]
    return steps


def _hull(ways: Candidates) -> list[int]:
    """Return the indices of the lower convex hull of (cost, loss), from the cheapest to the one that loses least."""
    order = np.lexsort((ways.lost, ways.costs))
    lowest = np.minimum.accumulate(ways.lost[order])
    improving = order[np.concatenate([[True], lowest[1:] < lowest[:-1]])]
    hull: list[int] = []
    for index in improving.tolist():
        while len(hull) > 1 and not _is_below(ways, hull[-2], hull[-1], index):
            hull.pop()
        hull.append(index)
    return hull


def _is_below(ways: Candidates, left: int, middle: int, right: int) -> bool:
    """Tell whether the middle point lies below the line through the others."""
    run, rise = ways.costs[right] - ways.costs[left], ways.lost[right] - ways.lost[left]
    return bool((ways.lost[middle] - ways.lost[left]) * run < rise * (ways.costs[middle] - ways.costs[left]))
