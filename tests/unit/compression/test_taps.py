import pytest
import torch
from hypothesis import given, settings
from random_networks import assert_exportable, images, networks
from torch import nn

from compression.taps import tapped


def hook_count(model):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return sum(len(getattr(module, name)) for module in model.modules() for name in hooks)


@given(networks())
@settings(deadline=None, max_examples=15)
def test_what_is_kept_is_what_the_layers_before_compute(model):
    names = [name for name, _ in model.named_children()]
    with torch.no_grad(), tapped(model, names) as taps:
        outputs = model(images())
        for index, name in enumerate(names):
            assert torch.equal(taps.input(name), model[:index](images()))
            assert torch.equal(taps.output(name), model[: index + 1](images()))
            model(images())
    assert torch.equal(taps.output(names[-1]), outputs)


def test_what_is_kept_is_not_overwritten_by_activations_in_place():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    with tapped(model, ["0", "1"]) as taps:
        model(inputs)
    expected = model[0](inputs)
    assert expected.min() < 0
    assert torch.equal(taps.output("0"), expected)
    assert torch.equal(taps.input("1"), expected)
    assert torch.equal(taps.output("1"), expected.relu())


def test_gradients_flow_through_what_is_kept():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    with tapped(model, ["0"]) as taps:
        model(inputs)
    taps.output("0").square().sum().backward()
    assert model[2].weight.grad is None
    (expected,) = torch.autograd.grad(model[0](inputs).square().sum(), model[0].weight)
    assert torch.equal(model[0].weight.grad, expected)


class StoppedError(Exception):
    pass


def run_and_stop(model):
    with tapped(model, ["0", "1"]):
        assert hook_count(model) == 5
        model(images())
        raise StoppedError


@given(networks())
@settings(deadline=None, max_examples=5)
def test_no_trace_is_left_after_an_exception_either(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    with torch.no_grad():
        outputs = model(images())
        with pytest.raises(StoppedError):
            run_and_stop(model)
        assert torch.equal(model(images()), outputs)
    assert hook_count(model) == 0
    assert [module.training for module in model.modules()] == flags
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_can_be_exported_once_the_context_has_ended():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).double()
    with tapped(model, ["0"]):
        model(images())
    assert_exportable(model)


def test_contexts_can_be_nested_and_other_hooks_stay():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    calls = []
    model[0].register_forward_hook(lambda *arguments: calls.append(arguments))
    with tapped(model, ["0"]) as outer:
        with tapped(model, ["0", "1"]) as inner:
            model(torch.ones(1, 3))
        assert torch.equal(outer.output("0"), inner.output("0"))
    assert len(calls) == 1
    assert hook_count(model) == 1


def test_a_layer_that_runs_twice_is_kept_twice_and_no_single_output():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    inputs = torch.randn(2, 3)
    with tapped(model, ["2", "1"]) as taps:
        model(inputs)
        model(inputs)
    first, second = taps.runs("2")
    assert torch.equal(first.output, shared(inputs))
    assert torch.equal(second.input, shared(inputs).tanh())
    with pytest.raises(ValueError, match="layer '2' ran 2 times in the last forward pass; once is needed"):
        taps.output("2")
    assert torch.equal(taps.input("1"), shared(inputs))


class Split(nn.Module):
    def forward(self, *, images):
        return images.split(1)


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.split = Split()

    def forward(self, inputs):
        return torch.cat(self.split(images=inputs))


def test_a_layer_without_a_tensor_is_an_error_only_where_it_is_asked_for():
    model = Holder()
    with tapped(model, ["split", ""]) as taps:
        assert torch.equal(model(torch.ones(3)), torch.ones(3))
    assert torch.equal(taps.output(""), torch.ones(3))
    with pytest.raises(ValueError, match="layer 'split' gave no tensor"):
        taps.output("split")
    with pytest.raises(ValueError, match="layer 'split' took no tensor"):
        taps.input("split")


def test_names_of_no_layer_are_errors():
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(ValueError, match="the model holds no layer 'relu'"), tapped(model, ["relu"]):
        pass
    with tapped(model, ["0"]) as taps, pytest.raises(ValueError, match="layer '0' ran 0 times"):
        taps.output("0")
    with pytest.raises(ValueError, match=r"layer '1' is not tapped; \['0'\] are"):
        taps.output("1")
    assert hook_count(model) == 0
