"""What every way to factorize a layer costs, and what it loses.

Example:
    found = candidates(conv, ("spatial", "tucker"))
    enough = np.flatnonzero(found.lost < 0.1)
    cheapest = found.at(enough[np.argmin(found.costs[enough])])  # costs are weights where no positions are given
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from compression.layers.replacement import finite_weight
from compression.low_rank.factorization import (
    Factorizable,
    Factorization,
    Scheme,
    factor_sizes,
    full_ranks,
    group_count,
    schemes_of,
)
from compression.low_rank.svd import singular_values, spatial_matrix
from compression.low_rank.tucker import higher_order_svd
from compression.taps import Run, tapped

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Positions:
    """Where a layer computes, added up over its calls for one input.

    Attributes:
        inputs: Positions of its input.
        between: Positions after the vertical factor of a spatial one: output rows by input columns.
        outputs: Positions of its output.
    """

    inputs: int
    between: int
    outputs: int


ONE_POSITION = Positions(1, 1, 1)
"""Where multiply-accumulates are the number of weights."""


@dataclass(frozen=True)
class Candidates:
    """Ways to factorize a layer, and to leave it dense.

    Attributes:
        schemes: The scheme of each way; None for the dense layer.
        ranks: The ranks of each way, of shape (n, 2); a single rank is followed by 0.
        costs: Multiply-accumulates at the positions given, of shape (n,).
        lost: Share of the weight's energy (squared Frobenius norm) that is lost, of shape (n,).
    """

    schemes: tuple[Scheme | None, ...]
    ranks: Integers
    costs: Integers
    lost: Floats

    def at(self, index: int) -> Factorization | None:
        """Return one of the ways; None for the dense layer."""
        scheme = self.schemes[index]
        ranks = tuple(int(rank) for rank in self.ranks[index] if rank)
        return None if scheme is None else Factorization(scheme, ranks)


def candidates(layer: Factorizable, schemes: Collection[Scheme], positions: Positions = ONE_POSITION) -> Candidates:
    """List all ranks that a layer can have by some schemes, with costs and losses, and the dense layer.

    What is lost is exact: for a singular value decomposition the values cut off, for a Tucker decomposition
    by truncated HOSVD what lies outside of the leading block of the full one's core.

    Args:
        layer: Stays as it is.
        schemes: "svd", "spatial" or "tucker"; those that the layer can't have are left out.
        positions: The positions at which it computes.

    Raises:
        ValueError: If a scheme is "cp", whose loss is known only once it is fitted, or a weight is not finite.
    """
    if "cp" in schemes:
        raise ValueError("the scheme 'cp' can't be planned: what it loses is known only once it is fitted")
    energy = float(finite_weight(layer).square().sum())
    possible = [scheme for scheme in schemes_of(layer) if scheme in schemes]
    rows = [_dense(layer, positions), *(_of_scheme(layer, scheme, positions, energy) for scheme in possible)]
    return Candidates(
        tuple(scheme for row in rows for scheme in row.schemes),
        np.concatenate([row.ranks for row in rows]),
        np.concatenate([row.costs for row in rows]),
        np.concatenate([row.lost for row in rows]),
    )


def measure_positions(
    model: nn.Module, layers: Mapping[str, Factorizable], input_shape: tuple[int, ...]
) -> dict[str, Positions]:
    """Measure where layers compute in a forward pass of one input, in evaluation mode on a copy without data.

    Args:
        model: Takes one batch of floating-point numbers; stays as it is.
        layers: Layers of the model by name.
        input_shape: Shape of one input, without the batch.
    """
    shadow = copy.deepcopy(model).to("meta", torch.float32).eval()
    with torch.no_grad(), tapped(shadow, layers) as taps:
        shadow(torch.empty(1, *input_shape, device="meta"))
        return {name: _positions(layer, taps.runs(name)) for name, layer in layers.items()}


def _positions(layer: Factorizable, runs: tuple[Run, ...]) -> Positions:
    shapes = [(run.input.shape, run.output.shape) for run in runs if run.input is not None and run.output is not None]
    if isinstance(layer, nn.Linear):
        rows = sum(output[:-1].numel() for _, output in shapes)
        return Positions(rows, rows, rows)
    return Positions(
        sum(taken[-2] * taken[-1] for taken, _ in shapes),
        sum(given[-2] * taken[-1] for taken, given in shapes),
        sum(given[-2] * given[-1] for _, given in shapes),
    )


def _dense(layer: Factorizable, positions: Positions) -> Candidates:
    cost = layer.weight.numel() * positions.outputs
    return Candidates((None,), np.zeros((1, 2), np.int64), np.array([cost], np.int64), np.zeros(1))


def _of_scheme(layer: Factorizable, scheme: Scheme, positions: Positions, energy: float) -> Candidates:
    ranks = np.indices(full_ranks(layer, scheme)).reshape(len(full_ranks(layer, scheme)), -1) + 1
    kept = sum(_kept_energies(group, scheme).ravel() for group in finite_weight(layer).chunk(group_count(layer)))
    sizes = factor_sizes(layer, scheme, list(ranks.astype(np.int64)))
    at = {
        "svd": (positions.outputs, positions.outputs),
        "spatial": (positions.between, positions.outputs),
        "tucker": (positions.inputs, positions.outputs, positions.outputs),
    }[scheme]
    costs = np.stack([size * count for size, count in zip(sizes, at, strict=True)]).sum(axis=0)
    two_ranks = np.zeros((ranks.shape[1], 2), np.int64)
    two_ranks[:, : len(ranks)] = ranks.T
    lost = np.clip(1 - kept / energy, 0, 1) if energy else np.zeros(ranks.shape[1])
    return Candidates((scheme,) * ranks.shape[1], two_ranks, costs, lost)


def _kept_energies(weight: Tensor, scheme: Scheme) -> Floats:
    """Return the energy of one group's weight that each rank keeps, or for Tucker each pair (r_out, r_in)."""
    if scheme == "tucker":
        core = higher_order_svd(weight).square().sum(dim=(2, 3))
        return np.asarray(core.cumsum(0).cumsum(1).cpu().numpy())
    matrix = spatial_matrix(weight) if scheme == "spatial" else weight.flatten(1)
    return np.asarray(singular_values(matrix).square().cumsum(0).cpu().numpy())
