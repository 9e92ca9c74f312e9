import torch
from networks import randomized
from torch import nn

from compression.pruning.allocation import keep_width
from compression.pruning.criteria import absolute_gamma
from compression.pruning.graph import channel_graph
from compression.pruning.pruning_report import PrunedGroup, report


def test_every_layer_is_told_with_what_happens_to_it_or_why_nothing_does():
    layers = [nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)]
    model = randomized(nn.Sequential(*layers, nn.Conv2d(4, 2, 1)))
    graph = channel_graph(model, (3, 4, 4))
    scores = absolute_gamma(model, graph)
    selection = {**keep_width(graph, scores, 0.5), "3": torch.arange(4)}
    told = report(graph, scores, selection)
    assert told.pruned == (PrunedGroup("0", ("0",), 8, 4),)
    assert told.whole == {"2": "no BatchNorm with a gamma for 6 of its 6 units", "3": "all its units are selected"}
    assert told.unprunable == graph.unprunable
    assert str(told).splitlines() == [
        "0: 4 of 8 units kept",
        "2: whole, no BatchNorm with a gamma for 6 of its 6 units",
        "3: whole, all its units are selected",
        "5: 2 channels stay, it is the model's output (at 'output')",
    ]
