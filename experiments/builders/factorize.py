"""The parent `original` in low rank, within a budget of parameters; not trained, BN statistics estimated anew."""

from collections.abc import Callable, Mapping

from torch import nn

from compression.low_rank.factorizing import factorize
from compression.low_rank.rank_allocation import plan_for_parameters
from compression.low_rank.uniform import factorize_to_budget
from experiments.workbench.compressed import original, with_new_statistics
from experiments.workbench.context import setting
from pytest_claims.training.context import Built, Context


def build(context: Context) -> Built:
    """Needs the settings `ranks`, one of `RANKS`, and `parameters`, the most that are left."""
    rank = RANKS[setting(context, "ranks", str)]
    return with_new_statistics(rank(original(context), setting(context, "parameters", int)), context)


def _allocated(model: nn.Module, parameters: int) -> nn.Module:
    return factorize(model, plan_for_parameters(model, parameters))


RANKS: Mapping[str, Callable[[nn.Module, int], nn.Module]] = {"uniform": factorize_to_budget, "allocated": _allocated}
"""How ranks are chosen: at one share of the full ones, or by singular values over all layers."""
