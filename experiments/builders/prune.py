"""Channels of the parent `original` cut away by a criterion; weights untouched, BN statistics estimated anew."""

from collections.abc import Callable, Mapping

from torch import nn
from torch.nn import functional as F

from compression.cost import parameter_count
from compression.pruning.allocation import layerwise_order, remove_until
from compression.pruning.criteria import Scores, filter_norm, random_scores, signed_gamma, taylor
from compression.pruning.cut import prune
from compression.pruning.graph import ChannelGraph, channel_graph
from experiments.workbench.compressed import original, with_new_statistics
from experiments.workbench.context import image_size, setting, training_batches
from pytest_claims.training.context import Built, Context

Criterion = Callable[[nn.Module, ChannelGraph, Context], Scores]


def build(context: Context) -> Built:
    """Needs the settings `criterion`, one of `CRITERIA`, and `parameters`, the most that are left.

    All layers lose about the same share of their channels.
    """
    model = original(context)
    graph = channel_graph(model, (3, *image_size(context)))
    scores = CRITERIA[setting(context, "criterion", str)](model, graph, context)
    order = layerwise_order(graph, scores)
    selection = remove_until(model, graph, order, parameter_count, setting(context, "parameters", int))
    return with_new_statistics(prune(model, graph, selection), context)


def _taylor(model: nn.Module, graph: ChannelGraph, context: Context) -> Scores:
    batches = ((batch.inputs, batch.labels) for batch in training_batches(context))
    return taylor(model, graph, batches, F.cross_entropy)


CRITERIA: Mapping[str, Criterion] = {
    "random": lambda model, graph, context: random_scores(graph, context.seed),
    "signed-gamma": lambda model, graph, context: signed_gamma(model, graph),
    "filter-norm": lambda model, graph, context: filter_norm(model, graph, order=2),
    "taylor": _taylor,
}
"""What ranks channels; see `compression.pruning.criteria`."""
