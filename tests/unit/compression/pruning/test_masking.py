import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ChannelsLast, every_other, images, outputs, random_networks, randomized, some_units
from torch import fx, nn

from compression.layers.masked_layers import MaskedNorm
from compression.pruning.cut import prune, units_to_keep
from compression.pruning.graph import channel_graph
from compression.pruning.masking import mask

SMALL = (3, 6, 6)


def convolution_norm_convolution(activation):
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), activation, nn.Conv2d(6, 2, 3, padding=1)]
    return randomized(nn.Sequential(*layers))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid(), nn.Softplus()])
def test_a_dropped_channels_beta_goes_with_it(activation):
    # The field's known mistake: filters and gamma set to zero, and the BatchNorm's beta left to flow on.
    model = convolution_norm_convolution(activation)
    graph = channel_graph(model, SMALL)
    kept, dropped = torch.tensor([0, 2, 5]), [1, 3, 4]
    mistaken = convolution_norm_convolution(activation)
    with torch.no_grad():
        mistaken[0].weight[dropped] = 0
        mistaken[0].bias[dropped] = 0
        mistaken[1].weight[dropped] = 0
        mistaken[1].bias[dropped] = mistaken[1].bias[dropped].abs() + 0.1
    inputs = images((2, *SMALL))
    cut = outputs(prune(model, graph, {"0": kept}), inputs)
    torch.testing.assert_close(outputs(mask(model, graph, {"0": kept}), inputs), cut)
    assert (outputs(mistaken, inputs) - cut).abs().max() > 0.05


def test_masked_channels_contribute_nothing_whatever_else_follows_them():
    layers = [nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, groups=6), nn.Sigmoid(), nn.Conv2d(6, 2, 1)]
    model = randomized(nn.Sequential(*layers))
    masked = mask(model, channel_graph(model, SMALL), {"0": torch.tensor([0, 3])})
    inputs, dropped = images((2, *SMALL)), [1, 2, 4, 5]
    before = outputs(masked, inputs)
    with torch.no_grad():
        masked[0].bias[dropped] += 7
        masked[1].bias[dropped] -= 5
        masked[2].weight[dropped] += 3
        masked[2].bias[dropped] += 9
    assert torch.equal(outputs(masked, inputs), before)


def test_exactly_the_numbers_that_the_cut_removes_are_zero():
    model = convolution_norm_convolution(nn.ReLU())
    graph = channel_graph(model, SMALL)
    masked, cut = (operation(model, graph, every_other(graph)) for operation in (mask, prune))
    for (name, parameter), left in zip(masked.named_parameters(), cut.parameters(), strict=True):
        assert torch.equal(parameter[parameter != 0].sort().values, left.flatten().sort().values), name
    assert torch.equal(masked[1].running_mean, model[1].running_mean)


def test_a_masked_layer_norm_has_the_kept_channels_statistics():
    norm = nn.LayerNorm(5).double()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    kept = torch.tensor([True, False, True, True, False])
    inputs = images((2, 3, 4, 5))
    expected = F.layer_norm(inputs[..., kept], (3,), norm.weight[kept], norm.bias[kept], norm.eps)
    torch.testing.assert_close(outputs(MaskedNorm.of(norm, kept, -1), inputs)[..., kept], expected)
    channels_first = outputs(MaskedNorm.of(norm, kept, -3), inputs.permute(0, 3, 1, 2))
    torch.testing.assert_close(channels_first[:, kept], expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize("affine", [True, False])
def test_a_masked_group_norm_has_the_kept_channels_statistics_over_all_positions(affine):
    norm = nn.GroupNorm(1, 4, affine=affine).double()
    kept = torch.tensor([True, False, True, True])
    inputs = images((2, 4, 3, 3))
    expected = F.group_norm(inputs[:, kept], 1, eps=norm.eps)
    torch.testing.assert_close(outputs(MaskedNorm.of(norm, kept, -3), inputs)[:, kept], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 64, 3, padding=1), nn.GroupNorm(1, 64), nn.Conv2d(64, 4, 1)),
        (nn.Conv2d(3, 64, 1), ChannelsLast(64), nn.Conv2d(64, 4, 1)),
    ],
    ids=["many positions", "large numbers"],
)
def test_a_masked_norm_of_a_short_type_is_as_right_as_the_cut_one(dtype, layers):
    model = randomized(nn.Sequential(*copy.deepcopy(layers))).to(dtype)
    model[0].weight.data *= 400
    graph = channel_graph(model, SMALL)
    selection, inputs = {"0": torch.arange(48)}, images((1, 3, 48, 48)).to(dtype)
    masked, cut = (outputs(operation(model, graph, selection), inputs) for operation in (mask, prune))
    torch.testing.assert_close(masked, cut)


class RootMeanSquare(nn.LayerNorm):
    def forward(self, inputs):
        return inputs * torch.rsqrt(inputs.square().mean(-1, keepdim=True) + self.eps) * self.weight


def test_a_norm_that_computes_something_else_is_an_error_that_names_it():
    model = randomized(nn.Sequential(nn.Linear(5, 8), RootMeanSquare(8, bias=False), nn.Linear(8, 3)))
    graph = channel_graph(model, (5,))
    with pytest.raises(ValueError, match="layer '1': RootMeanSquare computes no LayerNorm; it can't be masked"):
        mask(model, graph, every_other(graph))


def test_a_norms_hooks_stay_when_it_is_masked():
    model = randomized(nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)))
    model[1].register_forward_hook(lambda layer, args, output: 2 * output)
    graph, inputs = channel_graph(model, (5,)), images((3, 5))
    masked, cut = (outputs(operation(model, graph, every_other(graph)), inputs) for operation in (mask, prune))
    torch.testing.assert_close(masked, cut)


NORMS = {"batch": nn.BatchNorm2d, "one group": partial(nn.GroupNorm, 1), "layer": ChannelsLast}


def two_blocks(norm):
    layers = [nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3), norm(8), nn.Sigmoid(), nn.Conv2d(8, 2, 1)]
    return randomized(nn.Sequential(*layers))


@pytest.mark.parametrize("norm", NORMS)
def test_a_mask_of_a_masked_model_drops_what_either_drops(norm):
    model, inputs = two_blocks(NORMS[norm]), images((2, *SMALL))
    graph = channel_graph(model, SMALL)
    first = mask(model, graph, {"0": torch.arange(6)})
    second = mask(first, graph, {"0": torch.tensor([1, 2, 7]), "3": torch.tensor([1, 2, 3])})
    both = {"0": torch.tensor([1, 2]), "3": torch.tensor([1, 2, 3])}
    torch.testing.assert_close(outputs(second, inputs), outputs(prune(model, graph, both), inputs))
    train(second, OPTIMIZERS["momentum"], inputs)
    trained = train(prune(model, graph, both), OPTIMIZERS["momentum"], inputs)
    torch.testing.assert_close(outputs(second, inputs), outputs(trained, inputs), rtol=1e-6, atol=1e-8)


def test_masks_that_leave_a_norm_nothing_are_an_error():
    model = two_blocks(partial(nn.GroupNorm, 1))
    graph = channel_graph(model, SMALL)
    masked = mask(model, graph, {"0": torch.arange(4)})
    with pytest.raises(ValueError, match="layer '1': the model's mask and this one leave no channel; at least 1"):
        mask(masked, graph, {"0": torch.arange(4, 8)})


@pytest.mark.parametrize("norm", NORMS)
def test_what_a_masked_model_has_learned_can_be_cut(norm):
    model, inputs = two_blocks(NORMS[norm]), images((2, *SMALL))
    graph = channel_graph(model, SMALL)
    masked = train(mask(model, graph, every_other(graph)), OPTIMIZERS["adamw"], inputs).eval()
    with pytest.raises(ValueError, match=r"layer '.*' is masked; load the state dict into the plain model"):
        prune(masked, graph, every_other(graph))
    model.load_state_dict(masked.state_dict())
    cut = prune(model, graph, every_other(graph)).eval()
    torch.testing.assert_close(outputs(cut, inputs), outputs(masked, inputs))
    traced = fx.symbolic_trace(masked)
    assert traced(inputs).shape == masked(inputs).shape


def test_without_leaving_channels_out_a_layer_norm_would_differ():
    model = randomized(nn.Sequential(nn.Conv2d(3, 8, 1), ChannelsLast(8), nn.Conv2d(8, 2, 1)))
    graph = channel_graph(model, SMALL)
    kept, inputs = {"0": torch.tensor([0, 2, 5])}, images((2, *SMALL))
    masked = mask(model, graph, kept)
    cut = outputs(prune(model, graph, kept), inputs)
    torch.testing.assert_close(outputs(masked, inputs), cut)
    norm = nn.LayerNorm(8).double().eval()
    norm.load_state_dict({name: getattr(masked[1].norm, name) for name in ("weight", "bias")})
    masked[1].norm = norm
    assert (outputs(masked, inputs) - cut).abs().max() > 0.01


def test_a_layer_norm_of_two_names_is_masked_under_both():
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)
            self.again = self.norm

        def forward(self, inputs):
            return self.last(self.again(self.norm(self.first(inputs)).sigmoid()))

    model = randomized(Aliased())
    graph = channel_graph(model, (5, 3))
    inputs, kept = images((2, 5, 3)), every_other(graph)
    masked = mask(model, graph, kept)
    assert masked.again is masked.norm
    torch.testing.assert_close(outputs(masked, inputs), outputs(prune(model, graph, kept), inputs))


def test_the_masked_model_trains_and_loads_its_own_state():
    model = randomized(nn.Sequential(nn.Conv2d(3, 8, 1), ChannelsLast(8), nn.Conv2d(8, 2, 1))).train()
    graph = channel_graph(model, SMALL)
    masked, other = (mask(model, graph, every_other(graph)) for _ in range(2))
    inputs = images((2, *SMALL))
    optimizer = torch.optim.SGD(masked.parameters(), 0.1)
    masked(inputs).square().sum().backward()
    optimizer.step()
    assert not torch.equal(outputs(masked, inputs), outputs(other, inputs))
    other.load_state_dict(masked.state_dict())
    assert torch.equal(outputs(masked, inputs), outputs(other, inputs))
    exported = torch.export.export(masked.eval(), (inputs,)).module()
    torch.testing.assert_close(outputs(exported, inputs), outputs(masked, inputs))


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05),
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.05),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
}


def train(model, make_optimizer, inputs, steps=4):
    model.train()
    optimizer = make_optimizer(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
    return model


def assert_trained_alike(model, graph, selection, make_optimizer, inputs):
    """The masked model's training against the cut one's, and what the cut removes is zero to the bit."""
    masked, cut = (train(operation(model, graph, selection), make_optimizer, inputs) for operation in (mask, prune))
    keep = units_to_keep(graph, selection)
    left = dict(masked.state_dict())
    for name, axis in graph.layer_axes(model):
        if name in dict(masked.named_parameters()) and name not in graph.free:
            dropped = (~keep[axis.units]).nonzero().flatten()
            assert not masked.get_parameter(name).index_select(axis.dim, dropped).any(), name
        left[name] = left[name].index_select(axis.dim, keep[axis.units].nonzero().flatten())
    for name, tensor in cut.state_dict().items():
        torch.testing.assert_close(left[name], tensor, rtol=1e-6, atol=1e-8, msg=name)
    torch.testing.assert_close(outputs(masked.eval(), inputs), outputs(cut.eval(), inputs), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.SiLU(), nn.GELU(), nn.Sigmoid(), nn.Softplus(), nn.Hardsigmoid(), nn.PReLU()], ids=str
)
def test_the_masked_model_learns_what_the_cut_one_learns(activation, optimizer):
    model = convolution_norm_convolution(copy.deepcopy(activation))
    selection = {"0": torch.tensor([0, 2, 5])}
    assert_trained_alike(model, channel_graph(model, SMALL), selection, OPTIMIZERS[optimizer], images((4, *SMALL)))


@pytest.mark.slow
@given(random_networks(), st.data())
@settings(deadline=None, max_examples=15)
def test_any_masked_network_learns_what_the_cut_one_learns(drawn, data):
    model, shape = drawn
    graph = channel_graph(model, shape)
    selection = some_units(graph, data)
    gently = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=0.05)
    assert_trained_alike(model, graph, selection, gently, images((6, *shape)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.rsqrt(x.square().mean((2, 3), keepdim=True)),
        lambda x: torch.sqrt(x * x),
        lambda x: x / x.abs(),
    ],
)
def test_what_is_infinite_in_a_dropped_channel_harms_no_other(function):
    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 4, 1)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, inputs):
            return self.last(function(self.norm(self.first(self.stem(inputs)))))

    model = randomized(Between())
    selection = {"first": torch.arange(5)}
    gently = partial(torch.optim.SGD, lr=1e-6)
    assert_trained_alike(model, channel_graph(model, SMALL), selection, gently, images((4, *SMALL)))


def test_a_copy_of_the_masked_model_learns_the_same():
    model = convolution_norm_convolution(nn.Sigmoid())
    masked = mask(model, channel_graph(model, SMALL), {"0": torch.tensor([0, 2, 5])})
    copied = train(copy.deepcopy(masked), OPTIMIZERS["momentum"], images((4, *SMALL)))
    train(masked, OPTIMIZERS["momentum"], images((4, *SMALL)))
    assert all(map(torch.equal, copied.state_dict().values(), masked.state_dict().values()))


def test_a_layer_called_by_name_is_masked_too():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, inputs):
            return self.last(input=self.first(inputs).sigmoid())

    model = randomized(Named())
    selection = {"first": torch.tensor([1, 4])}
    assert_trained_alike(model, channel_graph(model, (3,)), selection, OPTIMIZERS["momentum"], images((4, 3)))
