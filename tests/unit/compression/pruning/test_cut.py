from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import (
    Classifier,
    Concatenated,
    HalfProcessed,
    Residual,
    Sum,
    every_other,
    images,
    outputs,
    random_networks,
    randomized,
    some_units,
)
from torch import nn

from compression.architecture.rewriting import rewrite_grouped
from compression.cost import multiply_accumulates, parameter_count
from compression.pruning.cut import prune, units_to_keep
from compression.pruning.graph import channel_graph
from compression.pruning.masking import mask

SMALL = (3, 6, 6)


def plain():
    return randomized(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.Sigmoid(),
            nn.Conv2d(5, 4, 1),
        )
    )


def flattened():
    body = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
    return randomized(Classifier(body, 6 * 4 * 4))


def multiply_by(gate, _, args):
    return (args[0] * gate,)


def gated(model, graph, selection, inputs):
    """The original, with the dropped channels set to zero where a layer reads them."""
    keep = units_to_keep(graph, selection)
    hooks = []
    for name, channels in graph.layers.items():
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear) or hasattr(layer, "out_channels"):
            view = [-1 if dim == channels.dim else 1 for dim in range(len(channels.shape))]
            gate = keep[channels.inputs].double().view(view)
            hooks.append(layer.register_forward_pre_hook(partial(multiply_by, gate)))
    result = outputs(model, inputs)
    for handle in hooks:
        handle.remove()
    return result


@pytest.mark.slow
@given(random_networks(), st.data())
@settings(deadline=None, max_examples=30)
def test_the_masked_and_the_cut_model_compute_the_same(drawn, data):
    model, shape = drawn
    graph = channel_graph(model, shape)
    selection = some_units(graph, data)
    inputs = images((2, *shape))
    masked, cut = mask(model, graph, selection), prune(model, graph, selection)
    torch.testing.assert_close(outputs(cut, inputs), outputs(masked, inputs), rtol=1e-8, atol=1e-9)
    assert [p.shape for p in masked.parameters()] == [p.shape for p in model.parameters()]
    assert (parameter_count(cut) < parameter_count(model)) == (not units_to_keep(graph, selection).all())


@pytest.mark.parametrize("build", [plain, flattened])
def test_the_cut_model_is_the_original_with_channels_set_to_zero_where_they_are_read(build):
    model = build()
    graph = channel_graph(model, SMALL)
    selection, inputs = every_other(graph), images((2, *SMALL))
    torch.testing.assert_close(outputs(prune(model, graph, selection), inputs), gated(model, graph, selection, inputs))
    assert not torch.allclose(outputs(model, inputs), gated(model, graph, selection, inputs), atol=0.01)


def test_every_tensor_is_the_kept_part_of_the_original():
    model = flattened()
    graph = channel_graph(model, SMALL)
    first, second = torch.tensor([1, 4]), torch.tensor([0, 2, 5])
    cut = prune(model, graph, {"body.0": first, "hidden": second})
    features = torch.tensor([channel * 16 + position for channel in (1, 4) for position in range(16)])
    assert torch.equal(cut.body[0].weight, model.body[0].weight[first])
    assert torch.equal(cut.hidden.weight, model.hidden.weight[second][:, features])
    assert torch.equal(cut.hidden.bias, model.hidden.bias[second])
    assert torch.equal(cut.last.weight, model.last.weight[:, second])
    assert torch.equal(cut.last.bias, model.last.bias)
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(cut.body[1], name), getattr(model.body[1], name)[first])
        assert torch.equal(getattr(cut.norm, name), getattr(model.norm, name)[second])


@pytest.mark.parametrize(
    ("groups", "channels", "kept", "left", "shape"),
    [
        # Cut by whole groups: each loses two inputs and three outputs.
        (4, (8, 12), [0, 3], 2, (6, 2, 3, 3)),
        # Cut by position, which leaves more choices: each of two groups loses four of six inputs.
        (2, (12, 4), [1, 4], 2, (4, 2, 3, 3)),
    ],
)
def test_a_grouped_convolution_stays_one(groups, channels, kept, left, shape):
    before, after = channels
    layers = [nn.Conv2d(3, before, 1), nn.Conv2d(before, after, 3, padding=1, groups=groups), nn.Conv2d(after, 2, 1)]
    model = randomized(nn.Sequential(*layers))
    graph = channel_graph(model, SMALL)
    cut = prune(model, graph, {"0": torch.tensor(kept)})
    assert (cut[1].groups, tuple(cut[1].weight.shape)) == (left, shape)
    assert (cut[1].in_channels, cut[1].out_channels) == (2 * len(kept), shape[0])
    inputs = images((2, *SMALL))
    torch.testing.assert_close(outputs(cut, inputs), gated(model, graph, {"0": torch.tensor(kept)}, inputs))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_a_transposed_convolution_is_cut(groups):
    transposed = nn.ConvTranspose2d(6, 12, 3, stride=2, groups=groups)
    model = randomized(nn.Sequential(nn.Conv2d(3, 6, 1), transposed, nn.Sigmoid(), nn.Conv2d(12, 2, 1)))
    graph = channel_graph(model, SMALL)
    selection, inputs = every_other(graph), images((2, *SMALL))
    cut = prune(model, graph, selection)
    torch.testing.assert_close(outputs(cut, inputs), gated(model, graph, selection, inputs))
    assert cut[1].in_channels == cut[0].out_channels < 6
    assert cut[1].weight.shape[1] * cut[1].groups == cut[1].out_channels < 12


@pytest.mark.parametrize(("dims", "size"), [(1, (7,)), (3, (3, 4, 5))])
def test_convolutions_of_other_dimensions_are_cut(dims, size):
    convolution, norm = getattr(nn, f"Conv{dims}d"), getattr(nn, f"BatchNorm{dims}d")
    model = randomized(nn.Sequential(convolution(2, 4, 3, padding=1), norm(4), nn.Sigmoid(), convolution(4, 2, 1)))
    graph = channel_graph(model, (2, *size))
    inputs, selection = images((2, 2, *size)), {"0": torch.tensor([1, 2])}
    cut = prune(model, graph, selection)
    torch.testing.assert_close(outputs(cut, inputs), gated(model, graph, selection, inputs))
    assert (cut[0].out_channels, cut[1].num_features, cut[3].in_channels) == (2, 2, 2)


def test_a_module_called_twice_is_cut_once_for_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.shared, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
            self.alias = self.shared

        def forward(self, inputs):
            return self.last(torch.sigmoid(self.alias(torch.sigmoid(self.shared(self.first(inputs))))))

    model = randomized(Twice())
    graph = channel_graph(model, SMALL)
    assert [(group.layers, len(group.units)) for group in graph.groups] == [(("first", "shared"), 4)]
    cut = prune(model, graph, {"first": torch.tensor([0, 3])})
    assert cut.alias is cut.shared
    assert tuple(cut.shared.weight.shape) == (2, 2, 3, 3)
    inputs = images((2, *SMALL))
    torch.testing.assert_close(outputs(cut, inputs), gated(model, graph, {"first": torch.tensor([0, 3])}, inputs))


def test_the_original_is_untouched():
    model = plain()
    graph = channel_graph(model, SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for other in (prune(model, graph, every_other(graph)), mask(model, graph, every_other(graph))):
        with torch.no_grad():
            for tensor in other.state_dict().values():
                tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in model.modules())


def test_dtype_flags_and_gradients_asked_for_are_kept():
    model = plain().half().train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    graph = channel_graph(model, SMALL)
    cut = prune(model, graph, {"0": torch.tensor([0, 1]), "3": torch.tensor([1])})
    assert [module.training for module in cut.modules()] == [module.training for module in model.modules()]
    assert [p.requires_grad for p in cut.parameters()] == [p.requires_grad for p in model.parameters()]
    assert {p.dtype for p in cut.parameters()} == {torch.float16}
    assert cut.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_is_kept(memory_format):
    model = plain().to(memory_format=memory_format)
    cut = prune(model, graph := channel_graph(model, SMALL), every_other(graph))
    for layer in (cut[0], cut[3], cut[6]):
        expected = layer.weight.detach().clone().contiguous().to(memory_format=memory_format)
        assert layer.weight.stride() == expected.stride()


def test_the_cut_model_trains_and_loads_its_own_state():
    model = flattened().train()
    cut = prune(model, graph := channel_graph(model, SMALL), every_other(graph))
    other = prune(flattened(), graph, every_other(graph))
    optimizer = torch.optim.SGD(cut.parameters(), 0.1)
    before = [parameter.clone() for parameter in cut.parameters()]
    cut(images((4, *SMALL))).square().sum().backward()
    optimizer.step()
    assert not any(map(torch.equal, before, cut.parameters()))
    other.load_state_dict(cut.state_dict())
    assert torch.equal(outputs(other, images((2, *SMALL))), outputs(cut.eval(), images((2, *SMALL))))


def test_pruning_can_be_repeated():
    model = plain()
    graph = channel_graph(model, SMALL)
    once = prune(model, graph, {"0": torch.tensor([0, 2, 5]), "3": torch.tensor([1, 3, 4])})
    again = channel_graph(once, SMALL)
    twice = prune(once, again, {"0": torch.tensor([1, 2]), "3": torch.tensor([0, 2])})
    direct = prune(model, graph, {"0": torch.tensor([2, 5]), "3": torch.tensor([1, 4])})
    assert all(map(torch.equal, twice.state_dict().values(), direct.state_dict().values()))


@pytest.mark.parametrize("groups", [2, 8])
def test_group_convolutions_that_a_rewriting_made_are_cut_between_their_orders(groups):
    convolutions = [nn.Conv2d(3, 16, 3), nn.Sigmoid(), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 2, 1)]
    model = rewrite_grouped(randomized(nn.Sequential(*convolutions)), groups, skip=["0", "3"]).model
    before, _, after = model[2]
    assert not torch.equal(before.order, torch.arange(16))
    graph = channel_graph(model, SMALL)
    assert "0" in graph.groups[0].layers
    assert sum(len(group.units) for group in graph.groups) == {2: 16, 8: 8}[groups]
    selection, inputs = every_other(graph), images((2, *SMALL))
    cut = prune(model, graph, selection)
    torch.testing.assert_close(outputs(cut, inputs), gated(model, graph, selection, inputs))
    torch.testing.assert_close(outputs(cut, inputs), outputs(mask(model, graph, selection), inputs))
    assert cut[2][0].channels == cut[0].out_channels < before.channels
    assert cut[2][2].channels == cut[3].in_channels < after.channels
    assert cut[2][0].is_permutation()
    assert cut[2][2].is_permutation()


def test_costs_fall_as_counted_by_hand():
    model = plain()
    cut = prune(model, channel_graph(model, SMALL), {"0": torch.tensor([0, 1]), "3": torch.tensor([2, 3, 4])})
    assert parameter_count(cut) == (3 * 9 * 2 + 2) + 4 + (2 * 9 * 3 + 3) + 6 + (3 * 4 + 4)
    assert multiply_accumulates(cut.float(), SMALL) == 36 * (3 * 9 * 2 + 2 * 9 * 3 + 3 * 4)


@pytest.mark.parametrize("operation", [prune, mask])
@pytest.mark.parametrize(
    ("index", "message"),
    [
        (torch.tensor([], dtype=torch.int64), "at least one index"),
        (torch.tensor([0.0]), "kept units are torch.float32"),
        (torch.tensor([[0]]), r"of shape \(1, 1\)"),
        (torch.tensor([1, 0]), "must ascend without repeats, from 0 to 5"),
        (torch.tensor([1, 1]), "must ascend without repeats"),
        (torch.tensor([-1, 0]), "must ascend without repeats"),
        (torch.tensor([6]), "from 0 to 5"),
    ],
)
def test_unusable_indices_are_an_error_that_names_the_group(operation, index, message):
    model = plain()
    with pytest.raises(ValueError, match=f"group '0': .*{message}"):
        operation(model, channel_graph(model, SMALL), {"0": index})


def test_a_group_that_is_none_is_an_error():
    model = plain()
    with pytest.raises(ValueError, match=r"group '6': the graph has no such group; it has 0, 3"):
        prune(model, channel_graph(model, SMALL), {"6": torch.tensor([0])})


def test_a_layer_left_without_channels_is_an_error():
    model = randomized(Sum())
    graph = channel_graph(model, SMALL)
    assert [len(group.units) for group in graph.groups] == [8]
    with pytest.raises(ValueError, match="layer 'right': the selection leaves no channel"):
        prune(model, graph, {"left": torch.tensor([0, 1])})
    kept = {"left": torch.tensor([0, 1, 4])}
    inputs = images((2, *SMALL))
    torch.testing.assert_close(outputs(prune(model, graph, kept), inputs), gated(model, graph, kept, inputs))


def test_a_graph_of_another_model_is_an_error_that_names_the_tensor():
    model = plain()
    graph = channel_graph(model, SMALL)
    cut = prune(model, graph, every_other(graph))
    with pytest.raises(ValueError, match=r"'0.bias' has 3 entries in dimension 0, and 6 in the graph"):
        prune(cut, graph, every_other(graph))
    with pytest.raises(ValueError, match="layer '0': the model has no such layer"):
        prune(nn.Sequential(), graph, every_other(graph))


def test_code_that_cannot_run_with_fewer_channels_is_found_before_the_model_is_given_out():
    # A size that isn't read off the tensor, but looks as if: what is cut is checked by tracing it again.
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

        def forward(self, inputs):
            hidden = self.first(inputs)
            return self.last(hidden.view(hidden.size(0), inputs.size(2), hidden.size(2), hidden.size(3)))

    model = randomized(Sized())
    graph = channel_graph(model, SMALL)
    assert len(graph.groups) == 1
    with pytest.raises(ValueError, match=r"operation 'view'.*can't follow its channels"):
        prune(model, graph, {"first": torch.tensor([0, 1])})


@pytest.mark.parametrize("build", [Residual, Concatenated, HalfProcessed])
def test_traced_again_a_cut_model_has_the_channels_that_were_kept(build):
    inner = nn.Sequential(nn.Conv2d(4 if build is HalfProcessed else 8, 4 if build is HalfProcessed else 8, 1))
    channels = 16 if build is Concatenated else 8
    model = randomized(nn.Sequential(nn.Conv2d(3, 8, 1), build(inner), nn.Conv2d(channels, 2, 1)))
    graph = channel_graph(model, SMALL)
    cut = prune(model, graph, every_other(graph))
    left = [len(group.units) for group in channel_graph(cut, SMALL).groups]
    assert left == [len(index) for index in every_other(graph).values()]
