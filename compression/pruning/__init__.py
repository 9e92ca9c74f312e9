"""Channels or single weights pruned from any model that `torch.fx` can trace.

* `graph`: which channels of a model can be cut, and which only together
* under it: `tracing` follows `channels` by `layers`, `rules` and `layout`; `record` keeps what met, `units` joins it
* `criteria`: how much each matters: signed or absolute gamma, filter norms, first-order Taylor, random
* `allocation`: how many go, in each layer or globally, by width, rate or budget
* `cut`: the smaller model; `masking`: the same function at the original shapes
* `pruning_report`: what went, what stayed and why
* `sparsity`: single weights by magnitude, N:M patterns, a schedule; `slimming`: the L1 penalty on gamma

A model with half of its parameters:

    graph = channel_graph(model, (3, 224, 224))
    scores = filter_norm(model, graph, order=2)
    budget = parameter_count(model) // 2
    kept = remove_until(model, graph, layerwise_order(graph, scores), parameter_count, budget)
    small = prune(model, graph, kept)
    print(report(graph, scores, kept))
"""
