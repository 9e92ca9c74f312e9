"""Channels or single weights pruned from any model that `torch.fx` can trace.

* `graph`: which channels of a model can be cut, and which only together
* under it: `tracing` follows `channels` by `layers`, `rules` and `layout`; `record` keeps what met, `units` joins it
* `criteria`: how much each matters: signed or absolute gamma, filter norms, first-order Taylor, random
* `allocation`: how many go, in each layer or globally, by width, rate or budget; `share`: how a share is rounded
* `cut`: the smaller model; `masking`: the same function at the original shapes
* `pruning_report`: what went, what stayed and why
* `sparsity`: single weights by magnitude, N:M patterns, a schedule; `slimming`: the L1 penalty on gamma

A network cut to half of its parameters, each group by the same share:

    python -c "
    import torchvision
    from compression.cost import parameter_count
    from compression.pruning import allocation, criteria, cut, graph
    model = torchvision.models.resnet18()
    channels = graph.channel_graph(model, (3, 64, 64))
    order = allocation.layerwise_order(channels, criteria.filter_norm(model, channels, order=2))
    kept = allocation.remove_until(model, channels, order, parameter_count, parameter_count(model) // 2)
    print(channels)
    print(parameter_count(cut.prune(model, channels, kept)))
    "
"""
