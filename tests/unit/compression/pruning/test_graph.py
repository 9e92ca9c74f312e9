import copy
import textwrap
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from networks import Residual, SqueezeExcitation, images, outputs, randomized
from torch import fx, nn
from torch.nn.utils import parametrizations, spectral_norm
from torchvision.ops import FrozenBatchNorm2d

import compression.pruning.graph as graph_module
from compression.pruning.cut import prune
from compression.pruning.graph import channel_graph

SMALL = (3, 6, 6)


def group_sizes(model, shape=SMALL):
    return {group.layers: len(group.units) for group in channel_graph(model, shape).groups}


def reasons(model, shape=SMALL):
    return {layer.layer: layer.reason for layer in channel_graph(model, shape).unprunable}


def test_a_chain_has_a_group_for_each_layer_but_the_last():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 2, 1))
    graph = channel_graph(model, SMALL)
    assert [(group.name, group.layers, group.norms, group.units) for group in graph.groups] == [
        ("0", ("0",), ("1",), range(4)),
        ("3", ("3",), (), range(4, 9)),
    ]
    assert [(layer.layer, layer.channels, layer.reason) for layer in graph.unprunable] == [
        ("4", 2, "it is the model's output (at 'output')")
    ]
    assert graph.layers["3"].inputs.tolist() == graph.layers["1"].outputs.tolist() == [0, 1, 2, 3]
    assert graph.layers["0"].inputs.tolist() == [-1, -1, -1]


def test_a_residual_sum_joins_its_layers_and_the_input_pins_it():
    inner = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.PReLU(6), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4))
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(inner), nn.Conv2d(4, 2, 1))
    assert group_sizes(model) == {("0", "1.inner.2"): 4, ("1.inner.0",): 6}
    on_the_image = nn.Sequential(Residual(nn.Conv2d(3, 3, 1)), nn.Conv2d(3, 2, 1))
    assert reasons(on_the_image)["0.inner"] == "it is the model's input (at 'input_1')"


def test_depthwise_and_excitation_layers_follow_their_channels():
    layers = [nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), SqueezeExcitation(8), nn.Conv2d(8, 2, 1)]
    assert group_sizes(nn.Sequential(*layers)) == {("0", "1", "2.up"): 8, ("2.down",): 3}


@pytest.mark.parametrize(
    ("groups", "before", "after", "sizes"),
    [
        # By whole groups: four of two inputs and three outputs.
        (4, 8, 12, {("0", "1"): 4}),
        # A depthwise convolution that gives three channels for each.
        (4, 4, 12, {("0", "1"): 4}),
        # By position: six in each of two groups come in, two in each go out.
        (2, 12, 4, {("0",): 6, ("1",): 2}),
    ],
)
def test_grouped_convolutions_are_cut_where_they_leave_more_choices(groups, before, after, sizes):
    layers = [nn.Conv2d(3, before, 1), nn.Conv2d(before, after, 1, groups=groups), nn.Conv2d(after, 2, 1)]
    assert group_sizes(nn.Sequential(*layers)) == sizes


@pytest.mark.parametrize(("groups", "units"), [(1, 8), (2, 2), (4, 4), (8, 8)])
def test_a_group_norm_gives_up_whole_groups(groups, units):
    model = randomized(nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(groups, 8), nn.Conv2d(8, 2, 1)))
    assert group_sizes(model) == {("0",): units}
    cut = prune(model, channel_graph(model, SMALL), {"0": torch.tensor([0])})
    assert (cut[1].num_groups, cut[1].num_channels) == (1, 8 // units)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4, track_running_stats=True)])
def test_instance_norm_is_cut(norm):
    model = randomized(nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.Conv2d(4, 2, 1)))
    cut = prune(model, channel_graph(model, SMALL), {"0": torch.tensor([1, 3])})
    sub = outputs(model[1], outputs(model[0], images((2, *SMALL))))[:, [1, 3]]
    expected = F.conv2d(sub, model[2].weight[:, [1, 3]], model[2].bias)
    torch.testing.assert_close(outputs(cut, images((2, *SMALL))), expected.detach())


def test_a_parameter_that_the_model_multiplies_is_cut_with_its_channels():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            self.scale, self.position = nn.Parameter(torch.ones(4, 1, 1)), nn.Parameter(torch.ones(6, 6))
            self.register_buffer("shift", torch.ones(1, 4, 1, 1))

        def forward(self, inputs):
            return self.last(self.first(inputs) * self.scale + self.shift + self.position)

    model = randomized(Scaled())
    cut = prune(model, channel_graph(model, SMALL), {"first": torch.tensor([0, 3])})
    assert torch.equal(cut.scale, model.scale[[0, 3]])
    assert torch.equal(cut.shift, model.shift[:, [0, 3]])
    assert torch.equal(cut.position, model.position)
    assert isinstance(cut.scale, nn.Parameter)
    assert "shift" in dict(cut.named_buffers())


class Functional(nn.Module):
    """Its last weight is a bare parameter; its middle layer's is used once more."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.weight = nn.Parameter(torch.ones(2, 4, 1, 1))

    def forward(self, inputs):
        hidden = F.conv2d(self.middle(self.other(self.first(inputs))), self.middle.weight)
        return F.conv2d(hidden, self.weight)


def test_functional_weights_are_named():
    assert reasons(Functional()) == {
        "": "'conv2d' may mix them (at 'conv2d_1')",
        "middle": "'conv2d' may mix them (at 'conv2d')",
        "other": "layer 'middle': the model uses 'middle.weight' outside its layer",
    }
    assert group_sizes(Functional()) == {("first",): 4}


def test_a_convolution_that_computes_its_weight_is_named_with_what_uses_it():
    class Standardized(nn.Conv2d):
        def forward(self, inputs):
            return F.conv2d(inputs, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)

    model = nn.Sequential(Standardized(3, 8, 3), nn.ReLU(), Standardized(8, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    graph = channel_graph(model, SMALL)
    assert graph.groups == ()
    assert {layer.layer: layer.channels for layer in graph.unprunable} == {"0": 8, "2": 6, "4": 2}
    with pytest.raises(ValueError, match=r"layer '0' has no channels that can be pruned: .* \(at 'mean'\)"):
        graph.group("0")


def test_a_parameter_of_a_functional_layer_is_named():
    class Projection(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.scale = nn.Parameter(torch.ones(5, 4)), nn.Parameter(torch.ones(4))

        def forward(self, inputs):
            return F.linear(inputs * self.scale, self.matrix)

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Projection(), nn.Linear(5, 2))
    graph = channel_graph(model, (3,))
    told = {layer.layer: (layer.channels, layer.reason) for layer in graph.unprunable}
    assert told["2"] == (5, "'linear' may mix them (at 'linear')")
    assert set(told) == {"0", "2", "3"}


def test_tied_weights_are_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    model[2].weight = model[1].weight
    told = "layer '1': its parameters are shared by '1' and '2'"
    assert reasons(model) == {
        "0": told,
        "1": told,
        "2": told.replace("layer '1'", "layer '2'"),
        "3": "it is the model's output (at 'output')",
    }


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (parametrizations.weight_norm, "'ParametrizedConv2d' may mix them (at '_1')"),
        (spectral_norm, "layer '1': its weight is computed from 'weight_orig'"),
    ],
)
def test_computed_weights_are_named(wrap, told):
    middle = wrap(nn.Conv2d(4, 4, 1))
    model = nn.Sequential(nn.Conv2d(3, 4, 1), middle, nn.Conv2d(4, 2, 1))
    assert reasons(model)["0"] == told
    assert "1" in reasons(model)
    assert group_sizes(model) == {}


def test_layers_that_cannot_be_followed_or_are_never_called_are_named():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.attention = nn.Linear(3, 4), nn.MultiheadAttention(4, 2)
            self.last, self.unused = nn.Linear(4, 2), nn.Linear(2, 7)

        def forward(self, inputs):
            hidden = self.first(inputs)
            return self.last(self.attention(hidden, hidden, hidden)[0])

    found = reasons(Mixed(), (5, 3))
    assert found["first"] == "'MultiheadAttention' may mix them (at 'attention')"
    assert found["attention"] == "a MultiheadAttention can't be followed"
    assert found["unused"] == "it is never called"


def test_a_group_is_found_by_any_of_its_layers_and_else_the_reason_is_told():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    graph = channel_graph(model, SMALL)
    assert graph.group("1") is graph.groups[0]
    with pytest.raises(ValueError, match="layer '2' has no channels that can be pruned: it is the model's output"):
        graph.group("2")
    assert str(graph).splitlines() == [
        "     8 units: 0, 1",
        "     2 channels of 2 stay: it is the model's output (at 'output')",
    ]


@fx.wrap
def smoothed(images):
    return images.flip(1) + torch.linspace(0, 1, 6)


class Between(nn.Module):
    """Two layers with something in between, which has tensors of eight channels."""

    def __init__(self, function, **tensors):
        super().__init__()
        self.first, self.last, self.function = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), function
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, inputs):
        return self.last(self.function(self, self.first(inputs)))


def test_a_parameter_of_one_dimension_is_cut_with_the_channels_in_the_last():
    class ScaledLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)
            self.gamma = nn.Parameter(torch.ones(8))

        def forward(self, inputs):
            return self.last(self.gamma * self.first(inputs).permute(0, 2, 3, 1))

    model, kept = randomized(ScaledLast()), torch.tensor([1, 2, 6])
    graph = channel_graph(model, SMALL)
    assert [len(group.units) for group in graph.groups] == [8]
    cut = prune(model, graph, {"first": kept})
    assert torch.equal(cut.gamma, model.gamma[kept])
    hidden = outputs(model.first, images((2, *SMALL))).permute(0, 2, 3, 1)[..., kept] * model.gamma[kept]
    expected = F.linear(hidden, model.last.weight[:, kept], model.last.bias)
    torch.testing.assert_close(outputs(cut, images((2, *SMALL))), expected.detach())


class OwnConv(nn.Conv2d):
    """Computes what a Conv2d does."""


def test_layers_of_subclasses_and_frozen_norms_are_cut_as_any():
    layers = [OwnConv(3, 8, 1), FrozenBatchNorm2d(8), nn.ReLU(), OwnConv(8, 6, 1), nn.Conv2d(6, 2, 1)]
    model, plain = nn.Sequential(*layers), copy.deepcopy(nn.Sequential(*layers))
    for place, (into, out) in {0: (3, 8), 3: (8, 6)}.items():
        plain[place] = nn.Conv2d(into, out, 1)
    plain[1] = nn.BatchNorm2d(8)
    model, plain = randomized(model), randomized(plain)
    plain.load_state_dict(model.state_dict(), strict=False)
    selection = {"0": torch.tensor([1, 5]), "3": torch.tensor([0, 2, 4])}
    assert group_sizes(model) == group_sizes(plain) == {("0",): 8, ("3",): 6}
    cut, expected = (prune(each, channel_graph(each, SMALL), selection) for each in (model, plain))
    assert [type(layer) for layer in cut] == [type(layer) for layer in model]
    inputs = images((2, *SMALL))
    torch.testing.assert_close(outputs(cut, inputs), outputs(expected, inputs))


@pytest.mark.parametrize(
    ("function", "tensor", "told"),
    [
        (lambda m, x: x[:, m.tensor], torch.randperm(8), "they are indexed by a tensor (at 'getitem')"),
        (
            lambda m, x: x.masked_fill(m.tensor.view(1, -1, 1, 1), 0.0),
            torch.arange(8) < 4,
            "'masked_fill' may mix them (at 'masked_fill')",
        ),
        (lambda m, x: smoothed(x), torch.ones(1), "'smoothed' may mix them (at 'smoothed')"),
        (lambda m, x: x.masked_fill(x > 0, 0.0), torch.ones(1), "'gt' may mix them (at 'gt')"),
        (
            lambda m, x: x * m.tensor.view(1, -1, 1, 1),
            torch.arange(8) < 4,
            "a tensor of torch.bool has fixed channels (at 'mul')",
        ),
    ],
)
def test_what_meets_an_index_or_a_flag_stays(function, tensor, told):
    model = Between(function, tensor=tensor)
    assert reasons(model) == {"first": told, "last": "it is the model's output (at 'output')"}


def test_what_meets_a_tensor_that_is_computed_from_buffers_stays_and_the_module_is_named():
    model = Between(lambda m, x: x * m.tensor.reshape(1, -1, 1, 1), tensor=torch.ones(8))
    told = reasons(nn.Sequential(model))["0.first"]
    assert told.startswith("a constant has fixed channels: module '0' holds or computes it")


def test_what_meets_a_buffer_that_is_in_no_state_dict_stays():
    model = Between(lambda m, x: x * m.scale)
    model.register_buffer("scale", torch.ones(8, 1, 1), persistent=False)
    told = "'scale' is in no state dict, from which a cut one could come back (at 'scale')"
    assert reasons(model)["first"] == told
    assert group_sizes(model) == {}


class GainedNorm(nn.LayerNorm):
    """Has one more tensor than a LayerNorm."""

    def __init__(self, channels):
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, inputs):
        return super().forward(inputs) * self.gain


class AddedNorm(nn.LayerNorm):
    """Of a sum with its other input."""

    def forward(self, inputs, others):
        return super().forward(inputs + others)


class FlatNorm(nn.LayerNorm):
    """Gives another shape than it takes."""

    def forward(self, inputs):
        return super().forward(inputs).flatten(1)


@pytest.mark.parametrize(
    ("norm", "last", "told"),
    [
        (GainedNorm(8), 8, "layer 'norm': a GainedNorm has 'gain' besides a LayerNorm's weight and bias"),
        (AddedNorm(8), 8, "'AddedNorm' takes more than one activation"),
        (FlatNorm(8), 48, "'FlatNorm' gives something else than a tensor of the same shape"),
        (nn.LayerNorm((6, 8)), 8, "'LayerNorm' normalizes dimensions that can't be told"),
    ],
)
def test_a_norm_that_does_more_than_a_layer_norm_stays(norm, last, told):
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(3, 8), norm, nn.Linear(last, 2)

        def forward(self, inputs):
            hidden = self.first(inputs)
            return self.last(self.norm(hidden, hidden) if type(norm) is AddedNorm else self.norm(hidden))

    found = reasons(Normed(), (6, 3))
    assert found["first"].removesuffix(" (at 'norm')") == told
    assert found.get("norm", told) == told


def test_what_runs_in_training_alone_counts_too():
    class Sided(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.side = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 3)

        def forward(self, inputs):
            hidden = self.first(inputs)
            return (self.last(hidden), self.side(hidden)) if self.training else self.last(hidden)

    for training in (True, False):
        model = randomized(Sided()).train(training)
        cut = prune(model, channel_graph(model, SMALL), {"first": torch.tensor([2])})
        assert (cut.last.in_channels, cut.side.in_channels) == (1, 1)
        assert cut.training == training


def test_a_named_tuple_of_outputs_is_an_output():
    class Heads(NamedTuple):
        main: torch.Tensor
        side: torch.Tensor

    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.main, self.side = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

        def forward(self, inputs):
            hidden = self.first(inputs)
            return Heads(self.main(hidden), side=self.side(hidden))

    assert reasons(Headed()) == dict.fromkeys(["main", "side"], "it is the model's output (at 'output')")
    assert group_sizes(Headed()) == {("first",): 4}


def test_layers_come_in_the_order_of_their_first_call_also_one_that_runs_in_training_alone():
    class Ordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.side, self.again, self.first = (nn.Conv2d(size, 4, 1) for size in (4, 4, 4, 3))

        def forward(self, inputs):
            hidden = self.again(self.again(self.first(inputs)))
            return self.last(hidden + self.side(hidden)) if self.training else self.last(hidden)

    graph = channel_graph(Ordered(), SMALL)
    assert list(graph.layers) == ["first", "again", "side", "last"]
    assert [group.layers for group in graph.groups] == [("first", "again", "side")]


def test_an_empty_shape_is_an_error():
    with pytest.raises(ValueError, match=r"input_shape is \(3, 0\); every size must be at least 1"):
        channel_graph(nn.Linear(3, 3), (3, 0))


def test_the_example_of_the_modules_docstring_is_true():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    graph = channel_graph(network, (3, 8, 8))
    assert textwrap.indent(str(graph), "    ") in graph_module.__doc__
    cut = {(name, axis.dim) for name, axis in graph.layer_axes(network) if torch.equal(axis.units, torch.arange(4))}
    tensors = "0.weight 0.bias 1.weight 1.bias 1.running_mean 1.running_var"
    assert cut == {*((name, 0) for name in tensors.split()), ("3.weight", 1)}
    assert all(f"{name}[i]" in graph_module.__doc__ for name in tensors.split())
