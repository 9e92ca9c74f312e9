import pytest
import torch
import torch.nn.functional as F
from networks import ChannelsLast, every_other, images, outputs, randomized
from torch import nn

from compression.pruning.cut import prune
from compression.pruning.graph import channel_graph
from compression.pruning.masked_norm import MaskedNorm
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
