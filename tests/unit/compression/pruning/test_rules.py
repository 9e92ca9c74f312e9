from functools import partial

import pytest
import torch
import torch.nn.functional as F
from networks import every_other, images, outputs, randomized
from torch import nn

from compression.pruning.cut import prune
from compression.pruning.graph import channel_graph
from compression.pruning.masking import mask
from compression.pruning.rules import standard_rules

SMALL = (3, 4, 4)


class Pair(nn.Module):
    """Two convolutions of the image that meet in a function, and a last one."""

    def __init__(self, function, second=6, last=6):
        super().__init__()
        self.first, self.second, self.function = nn.Conv2d(3, 6, 1), nn.Conv2d(3, second, 1), function
        self.last = nn.Conv2d(last, 2, 1)

    def forward(self, inputs):
        return self.last(self.function(self.first(inputs), self.second(inputs)))


def groups(model):
    """Layers by group, after cut and masked model were compared."""
    model = randomized(model)
    graph = channel_graph(model, SMALL)
    inputs, kept = images((2, *SMALL)), every_other(graph)
    torch.testing.assert_close(outputs(prune(model, graph, kept), inputs), outputs(mask(model, graph, kept), inputs))
    return [group.layers for group in graph.groups]


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a + b,
        lambda a, b: a * b.sigmoid(),
        lambda a, b: torch.sub(b, a),
        lambda a, b: a.add_(b),
        lambda a, b: a / (1 + b.abs()),
        lambda a, b: torch.maximum(a, F.gelu(b)),
        lambda a, b: a * F.adaptive_avg_pool2d(b, 1),
        lambda a, b: a.mean((2, 3))[:, :, None, None] + b,
        lambda a, b: torch.where(a > 0, a, b) if isinstance(a, torch.Tensor) else a + 2 * b,
        lambda a, b: a * F.hardtanh(b, 0.0, 6.0) + 0.5,
    ],
)
def test_what_meets_entry_by_entry_hangs_together(function):
    assert groups(Pair(function)) == [("first", "second")]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # A map over positions is one channel for all.
        (lambda a, b: a * b.mean(1, keepdim=True), [("first",)]),
        (lambda a, b: a * F.softmax(b, dim=1), []),
        (lambda a, b: a * F.softmax(b, dim=-1), [("first", "second")]),
        (lambda a, b: a * b.amax(), [("first",)]),
        (lambda a, b: torch.einsum("bchw,bchw->bchw", a, b), []),
        (lambda a, b: a + torch.matmul(b, b), []),
        (lambda a, b: F.pad(a, (0, 0, 0, 0, 1, 0))[:, 1:] + b, []),
        (lambda a, b: F.pad(a, (1, 1, 0, 2)) + F.pad(b, (1, 1, 0, 2)), [("first", "second")]),
        (lambda a, b: F.interpolate(a, scale_factor=2) * b.sum(dim=(2, 3), keepdim=True), [("first", "second")]),
        (lambda a, b: a * b.var(False), [("first",)]),
        (lambda a, b: a * b.std(unbiased=False), [("first",)]),
        (lambda a, b: a.std((2, 3), keepdim=True) + b.var(dim=[2, 3], keepdim=True), [("first", "second")]),
    ],
)
def test_what_mixes_channels_keeps_them(function, expected):
    assert groups(Pair(function)) == expected


def test_a_one_channel_gate_is_not_tied_to_what_it_multiplies():
    model = randomized(Pair(lambda a, b: a * b.sigmoid(), second=1))
    graph = channel_graph(model, SMALL)
    assert [(group.layers, len(group.units)) for group in graph.groups] == [(("first",), 6)]
    assert {layer.layer: layer.reason.partition(" (")[0] for layer in graph.unprunable} == {
        "second": "it is spread over the channels of another",
        "last": "it is the model's output",
    }


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveMaxPool2d(2),
        nn.LPPool2d(2, 2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.ZeroPad2d(2),
        nn.ReflectionPad2d(1),
        nn.Hardswish(),
        nn.ELU(),
        nn.Dropout2d(),
        nn.Softmax(dim=3),
        nn.PReLU(),
        nn.PReLU(6),
        nn.BatchNorm2d(6, affine=False),
        nn.BatchNorm2d(6, track_running_stats=False),
    ],
)
def test_layers_that_treat_each_channel_alone_pass_them_on(layer):
    model = nn.Sequential(nn.Conv2d(3, 6, 1), layer, nn.Conv2d(6, 2, 1))
    assert groups(model) == [("0",)]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.LocalResponseNorm(2), "'LocalResponseNorm' may mix them"),
        (nn.Softmax(dim=1), "'Softmax' runs over channels"),
        (nn.MaxPool3d((2, 1, 1)), "'MaxPool3d' runs over channels"),
        (nn.LayerNorm((6, 4, 4)), "'LayerNorm' normalizes dimensions that can't be told"),
    ],
)
def test_layers_that_mix_channels_are_named(layer, reason):
    last = nn.Conv2d(3 if isinstance(layer, nn.MaxPool3d) else 6, 2, 1)
    graph = channel_graph(nn.Sequential(nn.Conv2d(3, 6, 1), layer, last), SMALL)
    assert not graph.groups
    assert next(found.reason for found in graph.unprunable if found.layer == "0").startswith(reason)


def dependent(function, shape):
    """Whether an output channel depends on another input channel, by the gradient; channels in dimension 1."""
    inputs = images((2, *shape)).requires_grad_()
    (slopes,) = torch.autograd.grad(function(inputs)[:, 1].sum(), inputs)
    return bool(slopes[:, [0, 2, 3, 4, 5]].any())


@pytest.mark.parametrize(
    ("make", "shape", "function"),
    [
        (nn.Linear, (3,), nn.AvgPool1d(3, 1, 1)),
        (nn.Linear, (3,), lambda x: F.max_pool1d(x, 3, 1, 1)),
        (nn.Linear, (3,), nn.ConstantPad1d((1, -1), 0.0)),
        (partial(nn.Conv1d, kernel_size=1), (3, 5), lambda x: F.avg_pool2d(x, 3, 1, 1)),
        (partial(nn.Conv1d, kernel_size=1), (3, 5), lambda x: F.pad(x, (0, 0, 1, -1))),
        (partial(nn.Conv1d, kernel_size=1), (3, 5), lambda x: F.pad(x, (2, 1, 0, 0))),
        (partial(nn.Conv1d, kernel_size=1), (3, 5), lambda x: F.interpolate(x, size=7)),
        (partial(nn.Conv1d, kernel_size=1), (3, 5), lambda x: F.adaptive_avg_pool1d(x, 2)),
        (partial(nn.Conv2d, kernel_size=1), (3, 4, 4), lambda x: F.max_pool3d(x, 3, 1, 1)),
        (partial(nn.Conv2d, kernel_size=1), (3, 4, 4), nn.Upsample(scale_factor=2)),
        (partial(nn.Conv2d, kernel_size=1), (3, 4, 4), lambda x: F.lp_pool2d(x.exp(), 2, 2)),
        (partial(nn.Conv3d, kernel_size=1), (3, 4, 4, 4), nn.AvgPool3d(2)),
    ],
)
def test_pooling_over_unbatched_ranks_keeps_the_channels_that_it_mixes(make, shape, function):
    class Through(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.between, self.last = make(3, 6), function, make(6, 2)

        def forward(self, inputs):
            return self.last(self.between(self.first(inputs)))

    model = randomized(Through())
    graph = channel_graph(model, shape)
    if dependent(function, (6, *shape[1:])):
        assert not graph.groups
        assert "runs over channels" in next(found.reason for found in graph.unprunable if found.layer == "first")
    else:
        inputs, kept = images((2, *shape)), every_other(graph)
        assert [len(group.units) for group in graph.groups] == [6]
        cut, masked = (outputs(operation(model, graph, kept), inputs) for operation in (prune, mask))
        torch.testing.assert_close(cut, masked)


def test_rules_are_known_by_function_method_and_type():
    rules = standard_rules()
    assert rules[torch.relu] is rules[F.relu] is rules["relu"] is rules[nn.ReLU]
    assert rules[torch.cat] is not rules["chunk"]
    assert torch.einsum not in rules
    assert nn.LSTM not in rules
