import pytest
import torch

from compression.pruning.channels import along
from compression.pruning.record import NotUnderstoodError, Trace, argument, first_channels


def test_names_are_numbered_at_their_first_use():
    met = Trace(first_number=10)
    known = {"given": torch.tensor([3, 4])}
    assert met.numbers(known, "a", (2, 2)).tolist() == [[10, 11], [12, 13]]
    assert met.numbers(known, "b", (1,)).tolist() == [14]
    assert met.numbers(known, "a", (2, 2)).tolist() == [[10, 11], [12, 13]]
    assert met.numbers(known, "given", (2,)).tolist() == [3, 4]


def test_what_is_tied_to_a_fixed_channel_is_pinned_with_its_reason():
    met = Trace()
    fixed = met.fixed((3,), "it is an image").ids
    met.tie(torch.tensor([0, 1, 2]), torch.tensor([0, 5, int(fixed[0])]))
    assert [(tie.first.tolist(), tie.second.tolist()) for tie in met.ties] == [([1], [5])]
    assert [(pin.ids.tolist(), pin.reason) for pin in met.pins] == [([2], "it is an image")]


def test_equal_and_fixed_pairs_tie_nothing():
    met = Trace()
    fixed, other = (met.fixed((2,), reason).ids for reason in ("a", "b"))
    met.tie(torch.tensor([1, 2]), torch.tensor([1, 2]))
    met.tie(fixed, other)
    assert (met.ties, met.pins) == ([], [])


def test_a_slice_hangs_together():
    met = Trace()
    ids = torch.tensor([[0, 1, 2], [3, 1, 2]])
    assert met.tie_slices(ids, 1).tolist() == [0, 1, 2]
    assert [(tie.first.tolist(), tie.second.tolist()) for tie in met.ties] == [([0], [3])]
    assert met.tie_slices(along(torch.tensor([5, 6]), (2, 2, 9), 1).ids, 1).tolist() == [5, 6]
    assert len(met.ties) == 1


def test_arguments_are_found_by_place_or_name():
    channels = along(torch.tensor([5, 6]), (2, 2), 1)
    assert argument(((1, 2), {}), 1, "dim", 0) == 2
    assert argument(((1,), {"dim": 3}), 1, "dim", 0) == 3
    assert argument(((1,), {}), 1, "dim", 0) == 0
    assert first_channels(((), {"input": channels})) is channels
    with pytest.raises(NotUnderstoodError, match="input at another place"):
        first_channels(((1,), {}))
