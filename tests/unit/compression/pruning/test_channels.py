import pytest
import torch

from compression.pruning.channels import along, concatenate, stored, uniform, varies, varying_dims


def test_ids_lie_along_one_dimension_and_take_no_room_in_the_others():
    ids = along(torch.tensor([4, 7, 9]), (2, 3, 1000, 1000), 1).ids
    assert ids.shape == (2, 3, 1000, 1000)
    assert ids[1, :, 999, 0].tolist() == [4, 7, 9]
    assert ids.untyped_storage().nbytes() == 3 * 8
    assert stored(ids).shape == (1, 3, 1, 1)


def test_one_channel_for_all():
    assert uniform((2, 3), -5).ids.tolist() == [[-5] * 3] * 2
    assert uniform((), 1).ids.shape == ()
    assert varying_dims(uniform((2, 3), -5).ids) == []


def test_where_channels_differ():
    ids = torch.tensor([[1, 1, 2], [1, 1, 2]])
    assert not varies(ids, 0)
    assert varies(ids, 1)
    assert varying_dims(ids.T) == [0]
    assert varying_dims(torch.arange(6).view(2, 3)) == [0, 1]
    assert varying_dims(torch.zeros(0, 2, dtype=torch.int64)) == []


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_concatenation_is_torchs_and_leaves_expanded_dimensions_so(dim):
    first, second = along(torch.arange(3), (2, 3, 4), 1).ids, along(torch.arange(5, 8), (2, 3, 4), 1).ids
    joined = concatenate([first, second], dim)
    assert torch.equal(joined, torch.cat([first, second], dim))
    assert [axis for axis in (0, 2) if axis != dim and joined.stride(axis)] == []
