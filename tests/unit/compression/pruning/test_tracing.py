import pytest
import torch
from torch import nn

from compression.pruning.graph import channel_graph
from compression.pruning.tracing import without_data


def test_a_copy_without_data_has_the_same_tensors_but_their_numbers():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).half()).to(memory_format=torch.channels_last)
    model[0].weight.requires_grad_(False)
    model.append(model[0])
    copied = without_data(model)
    assert {tensor.device.type for tensor in copied.state_dict().values()} == {"meta"}
    assert copied[2] is copied[0]
    for ours, theirs in zip(copied.parameters(), model.parameters(), strict=True):
        assert (ours.shape, ours.dtype, ours.stride()) == (theirs.shape, theirs.dtype, theirs.stride())
        assert (type(ours), ours.requires_grad) == (nn.Parameter, theirs.requires_grad)
    assert model[0].weight.device.type == "cpu"


def test_the_model_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 1)).train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    channel_graph(model, (3, 4, 4))
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Branching(nn.Module):
    def forward(self, inputs):
        return inputs if inputs.sum() > 0 else -inputs


def test_a_model_that_fx_cannot_trace_is_an_error():
    with pytest.raises(ValueError, match=r"torch\.fx can't trace the model Branching: .*control flow"):
        channel_graph(Branching(), (3,))


def test_an_input_that_the_model_cannot_take_names_the_operation():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ValueError, match=r"operation '_0' \(0\): can't follow its channels: .*"):
        channel_graph(model, (5, 4, 4))


def test_a_second_input_needs_a_default():
    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, inputs, scale):
            return self.last(self.first(inputs) * scale)

    class Defaulted(Given):
        def forward(self, inputs, scale=2.0):
            return self.last(self.first(inputs) * scale)

    with pytest.raises(ValueError, match=r"operation 'scale'.*it is a second input, and the model must run on one"):
        channel_graph(Given(), (3,))
    assert [len(group.units) for group in channel_graph(Defaulted(), (3,)).groups] == [4]
