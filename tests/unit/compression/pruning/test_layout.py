import pytest
import torch
import torch.nn.functional as F
from networks import Shuffled, every_other, images, outputs, randomized
from torch import nn

from compression.pruning.cut import prune
from compression.pruning.graph import channel_graph
from compression.pruning.masking import mask

SMALL = (3, 4, 4)


class Between(nn.Module):
    """Two convolutions with any function between them; its last layer reads flattened positions, too."""

    def __init__(self, function, last):
        super().__init__()
        self.first, self.last, self.function = nn.Conv2d(3, 8, 1), last, function

    def forward(self, inputs):
        return self.last(self.function(self.first(inputs)))


def units(function, last):
    """How many sets of the eight channels can go, after cut and masked model were compared; and the reason if none."""
    model = randomized(Between(function, last))
    graph = channel_graph(model, SMALL)
    if not graph.groups:
        return next(layer.reason for layer in graph.unprunable if layer.layer == "first")
    inputs, kept = images((2, *SMALL)), every_other(graph)
    torch.testing.assert_close(outputs(prune(model, graph, kept), inputs), outputs(mask(model, graph, kept), inputs))
    return len(graph.groups[0].units)


@pytest.mark.parametrize(
    ("function", "last", "expected"),
    [
        (lambda x: x.flatten(1), nn.Linear(128, 2), 8),
        (lambda x: torch.flatten(x, start_dim=1), nn.Linear(128, 2), 8),
        (lambda x: x.view(x.size(0), -1), nn.Linear(128, 2), 8),
        (lambda x: x.reshape(x.shape[0], x.shape[1], -1).transpose(1, 2), nn.Linear(8, 2), 8),
        (lambda x: x.permute(0, 2, 3, 1), nn.Linear(8, 2), 8),
        (lambda x: torch.movedim(x, 1, -1), nn.Linear(8, 2), 8),
        (lambda x: x.mean((2, 3)).unsqueeze(-1).squeeze(-1), nn.Linear(8, 2), 8),
        (lambda x: torch.cat([x, x.relu()], dim=1), nn.Conv2d(16, 2, 1), 8),
        (lambda x: torch.cat([x, x.flip(3)], 3), nn.Conv2d(8, 2, 1), "'flip' may mix them (at 'flip')"),
        (lambda x: torch.cat([x, -x], 3), nn.Conv2d(8, 2, 1), 8),
        (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), nn.Conv2d(8, 2, 1), 4),
        (lambda x: x.chunk(4, dim=1)[1] + x.chunk(4, dim=1)[3], nn.Conv2d(2, 2, 1), 2),
        (lambda x: torch.cat(torch.split(x, x.shape[1] // 2, 1), 1), nn.Conv2d(8, 2, 1), 4),
        (lambda x: torch.cat(torch.tensor_split(x, 4, 1), 1), nn.Conv2d(8, 2, 1), 2),
        (lambda x: torch.cat(x.tensor_split(sections=4, dim=1), 1), nn.Conv2d(8, 2, 1), 2),
        (lambda x: x.tensor_split([3], 2)[0], nn.Conv2d(8, 2, 1), 8),
        (lambda x: F.channel_shuffle(x, 2), nn.Conv2d(8, 2, 1), 4),
        (lambda x: F.channel_shuffle(x, groups=4), nn.Conv2d(8, 2, 1), 2),
        (lambda x: x.unflatten(1, (2, -1)).flatten(1, 2), nn.Conv2d(8, 2, 1), 4),
        (lambda x: x.unflatten(3, (x.relu().unflatten(3, (2, 2)).shape[3:])).flatten(3), nn.Conv2d(8, 2, 1), 8),
        (lambda x: torch.unflatten(x, dim=-3, sizes=(-1, 2)).flatten(1, 2), nn.Conv2d(8, 2, 1), 4),
        (lambda x: x.chunk(2, 3)[0], nn.Conv2d(8, 2, 1), 8),
        (lambda x: x.split([1, 3], dim=2)[1], nn.Conv2d(8, 2, 1), 8),
        (lambda x: x[:, :, 1:, ::2], nn.Conv2d(8, 2, 1), 8),
        (lambda x: x[..., 0], nn.Conv1d(8, 2, 1), 8),
        (lambda x: x[:, :, None].squeeze(2), nn.Conv2d(8, 2, 1), 8),
    ],
)
def test_channels_are_followed(function, last, expected):
    assert units(function, last) == expected


@pytest.mark.parametrize(
    ("layer", "last", "expected"),
    [
        (nn.Flatten(), nn.Linear(128, 2), 8),
        (nn.Flatten(2), nn.Conv1d(8, 2, 1), 8),
        (nn.ChannelShuffle(2), nn.Conv2d(8, 2, 1), 4),
        (Shuffled(2), nn.Conv2d(8, 2, 1), 4),
        (Shuffled(4), nn.Conv2d(8, 2, 1), 2),
        (nn.PixelShuffle(2), nn.Conv2d(2, 2, 1), 2),
        (nn.PixelUnshuffle(2), nn.Conv2d(32, 2, 1), 8),
        (nn.Unflatten(1, (2, -1)), nn.Conv3d(2, 2, 1), "all 8 channels of 'first' hang together"),
        (nn.Sequential(nn.Unflatten(1, (-1, 2)), nn.Flatten(1, 2)), nn.Conv2d(8, 2, 1), 4),
    ],
)
def test_channels_are_followed_through_layers(layer, last, expected):
    assert units(layer, last) == expected


@pytest.mark.parametrize(
    ("function", "last", "reason"),
    [
        (lambda x: x.view(-1, 128), nn.Linear(128, 2), "'view' has their number written in the code"),
        (lambda x: x.reshape((2, 8, 16)), nn.Conv1d(8, 2, 1), "'reshape' has their number written in the code"),
        (lambda x: torch.cat(x.split(4, dim=1), 1), nn.Conv2d(8, 2, 1), "'split' has sizes that don't follow their"),
        (lambda x: torch.cat(x.split([2, 6], 1), 1), nn.Conv2d(8, 2, 1), "'split' has sizes that don't follow their"),
        (lambda x: torch.cat(x.tensor_split([4], 1), 1), nn.Conv2d(8, 2, 1), "'tensor_split' has sizes that don't"),
        (lambda x: torch.cat(x.tensor_split(indices=(4,), dim=1), 1), nn.Conv2d(8, 2, 1), "'tensor_split' has sizes"),
        (lambda x: x.unflatten(1, (2, 4)).flatten(1, 2), nn.Conv2d(8, 2, 1), "'unflatten' has their number written"),
        (lambda x: torch.cat(x.chunk(3, 1), 1), nn.Conv2d(8, 2, 1), "'chunk' has sizes that don't follow their"),
        (lambda x: x[:, :4], nn.Conv2d(4, 2, 1), "they are indexed by their number"),
        (lambda x: x[:, [0, 3]], nn.Conv2d(2, 2, 1), "they are indexed by a tensor"),
        (lambda x: torch.stack([x, x], 1).mean(2), nn.Conv2d(2, 2, 1), "'stack' may mix them"),
        (lambda x: torch.cat([x, torch.ones(2, 8, 4, 4, device="meta")], 3), nn.Conv2d(8, 2, 1), "a constant has"),
    ],
)
def test_channels_whose_number_the_code_knows_must_stay(function, last, reason):
    found = channel_graph(Between(function, last), SMALL)
    assert not found.groups
    told = next(layer.reason for layer in found.unprunable if layer.layer == "first")
    assert told.startswith(reason)
