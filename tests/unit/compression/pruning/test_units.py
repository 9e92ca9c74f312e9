import torch
from torch import nn

from compression.pruning.record import Pin, Tie, Trace
from compression.pruning.units import number_units


def met(ties=(), pins=()):
    """Layers "0" of channels 0-3 and "1" of 4-6."""
    outputs = {"0": torch.arange(4), "1": torch.arange(4, 7)}
    pairs = [Tie(torch.tensor(first), torch.tensor(second), "add") for first, second in ties]
    return Trace(outputs, ties=pairs, pins=[Pin(torch.tensor(ids), reason) for ids, reason in pins])


MODEL = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(3, 3, 1))


def test_without_ties_each_channel_is_a_unit_and_each_layer_a_group():
    numbering = number_units(MODEL, met())
    assert numbering.groups == [range(4), range(4, 7)]
    assert numbering.units(torch.tensor([[0, 6], [-1, 4]])).tolist() == [[0, 6], [-1, 4]]


def test_ties_join_channels_over_any_number_of_steps():
    # 0-5, 5-1, 1-6: one unit of four; its layers become one group, numbered by the first layer's channels.
    numbering = number_units(MODEL, met(ties=[([0], [5]), ([5, 1], [1, 6])]))
    assert numbering.groups == [range(4)]
    assert numbering.units(torch.arange(7)).tolist() == [0, 0, 1, 2, 3, 0, 0]


def test_what_is_tied_to_a_pinned_channel_stays_with_the_first_reason():
    numbering = number_units(MODEL, met(ties=[([2], [4])], pins=[([4], "first"), ([2, 3], "second")]))
    assert numbering.units(torch.arange(7)).tolist() == [0, 1, -1, -1, -1, 2, 3]
    assert [numbering.reason(torch.tensor(channel)) for channel in (2, 3, 4)] == ["first", "second", "first"]
    assert numbering.groups == [range(2), range(2, 4)]
