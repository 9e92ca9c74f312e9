"""Channels or single weights pruned from any model that `torch.fx` can trace.

* `graph`: which channels of a model can be cut, and which only together
* under it: `tracing` follows `channels` by `rules` and `layout`; `record` keeps what it meets, `units` joins that
* `criteria`: how much each channel matters: signed or absolute gamma, filter norms, first-order Taylor, random
* `allocation`: how many go, in each layer or globally, by width, rate or budget; `share`: how a share is rounded
* `cut`: the smaller model; `masking`: the same function at the original shapes
* `pruning_report`: what went, what stayed and why
* `sparsity`: single weights by magnitude, N:M patterns, a schedule; `slimming`: the L1 penalty on gamma

A network cut to half of its parameters, each group by the same share:

    python -c "
    import torchvision
    from compression import parameter_count
    from compression.pruning import channel_graph, filter_norm, layerwise_order, prune, remove_until
    model = torchvision.models.resnet18()
    graph = channel_graph(model, (3, 64, 64))
    order = layerwise_order(graph, filter_norm(model, graph, order=2))
    kept = remove_until(model, graph, order, parameter_count, parameter_count(model) // 2)
    print(graph)
    print(parameter_count(prune(model, graph, kept)))
    "
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.pruning.allocation import (
        global_order,
        keep_counts,
        keep_width,
        layerwise_order,
        remove_rate,
        remove_until,
        state_bytes,
    )
    from compression.pruning.criteria import (
        Scores,
        absolute_gamma,
        filter_norm,
        gamma_penalty,
        random_scores,
        relative_to_group,
        signed_gamma,
        taylor,
    )
    from compression.pruning.cut import Selection, prune
    from compression.pruning.graph import ChannelGraph, Group, Unprunable, channel_graph
    from compression.pruning.masking import mask
    from compression.pruning.pruning_report import PruningReport, report
    from compression.pruning.sparsity import (
        apply_masks,
        cubic_sparsity,
        global_magnitude_masks,
        magnitude_masks,
        n_m_left_dense,
        n_m_masks,
        prunable_weights,
        unprunable_weights,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "allocation": "global_order keep_counts keep_width layerwise_order remove_rate remove_until state_bytes",
            "criteria": "Scores absolute_gamma filter_norm gamma_penalty random_scores relative_to_group signed_gamma "
            "taylor",
            "cut": "Selection prune",
            "graph": "ChannelGraph Group Unprunable channel_graph",
            "masking": "mask",
            "pruning_report": "PruningReport report",
            "sparsity": "apply_masks cubic_sparsity global_magnitude_masks magnitude_masks n_m_left_dense n_m_masks "
            "prunable_weights unprunable_weights",
        },
    )

__all__ = [
    "ChannelGraph",
    "Group",
    "PruningReport",
    "Scores",
    "Selection",
    "Unprunable",
    "absolute_gamma",
    "apply_masks",
    "channel_graph",
    "cubic_sparsity",
    "filter_norm",
    "gamma_penalty",
    "global_magnitude_masks",
    "global_order",
    "keep_counts",
    "keep_width",
    "layerwise_order",
    "magnitude_masks",
    "mask",
    "n_m_left_dense",
    "n_m_masks",
    "prunable_weights",
    "prune",
    "random_scores",
    "relative_to_group",
    "remove_rate",
    "remove_until",
    "report",
    "signed_gamma",
    "state_bytes",
    "taylor",
    "unprunable_weights",
]
