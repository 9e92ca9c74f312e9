import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compression.layers.channel_order import ChannelOrder


@given(st.integers(1, 6).flatmap(lambda count: st.permutations(range(count))))
def test_channels_come_in_the_order_and_its_inverse_puts_them_back(order):
    images = np.random.default_rng(0).random((2, len(order), 3, 2))
    layer = ChannelOrder.of(torch.tensor(order))
    assert layer.is_permutation()
    moved = layer(torch.from_numpy(images))
    assert np.array_equal(moved.numpy(), images[:, order])
    assert np.array_equal(layer(torch.from_numpy(images[0])).numpy(), images[0, order])
    assert torch.equal(ChannelOrder.of(torch.tensor(order).argsort())(moved), torch.from_numpy(images))


def test_at_first_each_channel_stays_where_it_is():
    assert ChannelOrder(3).order.tolist() == [0, 1, 2]
    assert str(ChannelOrder(3)) == "ChannelOrder(3)"


@pytest.mark.parametrize("order", [[0, 0], [1, 2], [-1, 0]])
def test_what_is_no_permutation_is_told(order):
    assert not ChannelOrder.of(torch.tensor(order)).is_permutation()
