import copy
import textwrap
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
import torch_pruning
import torchvision
from networks import (
    IMAGE,
    TORCHVISION,
    ChannelsLast,
    Concatenated,
    HalfProcessed,
    Shuffled,
    every_other,
    images,
    outputs,
    randomized,
    torchvision_network,
)
from torch import fx, nn

import compression.pruning
from compression.cost import parameter_count
from compression.pruning.allocation import layerwise_order, remove_rate
from compression.pruning.criteria import random_scores
from compression.pruning.cut import Selection, prune
from compression.pruning.graph import ChannelGraph, channel_graph
from compression.pruning.masking import mask

pytestmark = pytest.mark.slow

# Torch-Pruning 1.6 divides by zero in ShuffleNet's split.
COMPARED = [name for name in TORCHVISION if not name.startswith("shufflenet")]
EXPORTED = ["resnet18", "squeezenet1_1", "mobilenet_v3_small"]


@dataclass(frozen=True)
class Pruned:
    """A network of which two fifths of all units are cut."""

    name: str
    model: nn.Module
    graph: ChannelGraph
    selection: Selection
    cut: nn.Module


@pytest.fixture(scope="module")
def pruned(request):
    model = torchvision_network(request.param)
    graph = channel_graph(model, IMAGE)
    selection = remove_rate(graph, layerwise_order(graph, random_scores(graph, seed=0)), 0.4)
    return Pruned(request.param, model, graph, selection, prune(model, graph, selection))


@pytest.mark.parametrize("pruned", TORCHVISION, indirect=True)
def test_masked_equals_cut(pruned):
    inputs = images()
    masked = outputs(mask(pruned.model, pruned.graph, pruned.selection), inputs)
    torch.testing.assert_close(outputs(pruned.cut, inputs), masked, rtol=1e-9, atol=1e-10)
    assert (outputs(pruned.model, inputs) - masked).abs().max() > 0.1
    assert parameter_count(pruned.cut) < 0.65 * parameter_count(pruned.model)


@pytest.mark.parametrize("pruned", TORCHVISION, indirect=True)
def test_every_layer_is_in_a_group_or_named_with_a_reason(pruned):
    model, graph = pruned.model, pruned.graph
    makers = {key for key, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    grouped = {layer for group in graph.groups for layer in group.layers}
    assert makers == grouped | {layer.layer for layer in graph.unprunable}
    stay = {layer.layer for layer in graph.unprunable if "hang together" not in layer.reason}
    classifiers = [key for key, layer in model.named_modules() if getattr(layer, "out_features", 0) == 10]
    assert stay == set(classifiers or ["classifier.1"])


@pytest.mark.parametrize("pruned", COMPARED, indirect=True)
def test_torch_pruning_cuts_the_same_model(pruned):
    model, graph = pruned.model, pruned.graph
    compared = {
        name: kept for name, kept in pruned.selection.items() if known_to_torch_pruning(model, graph.group(name))
    }
    ours, theirs = prune(model, graph, compared), cut_by_torch_pruning(model, graph, compared)
    assert parameter_count(theirs) == parameter_count(without_side_heads(ours)) < 0.9 * parameter_count(model)
    torch.testing.assert_close(outputs(ours, images()), outputs(theirs, images()), rtol=1e-9, atol=1e-10)


def known_to_torch_pruning(model, group):
    """It cuts grouped convolutions by position, not by whole groups, and sees no side heads, which run in training."""
    layers = [model.get_submodule(name) for name in group.layers]
    grouped = any(1 < getattr(layer, "groups", 1) < layer.weight.shape[0] for layer in layers)
    return not grouped and not group.name.startswith("aux")


def without_side_heads(model):
    if isinstance(model, torchvision.models.GoogLeNet):
        model.aux1 = model.aux2 = None
    return model


def cut_by_torch_pruning(model, graph, selection):
    theirs = without_side_heads(copy.deepcopy(model))
    scales = [(parameter, 0) for key, parameter in theirs.named_parameters() if "layer_scale" in key]
    dependencies = torch_pruning.DependencyGraph()
    dependencies.build_dependency(theirs, images(), unwrapped_parameters=scales)
    for name, kept in selection.items():
        units = graph.group(name).units
        left = {units[unit] for unit in kept}
        channels = enumerate(graph.layers[name].outputs.tolist())
        dropped = [channel for channel, unit in channels if unit in units and unit not in left]
        layer = theirs.get_submodule(name)
        by = torch_pruning.prune_linear_out_channels
        if isinstance(layer, nn.Conv2d):
            by = torch_pruning.prune_conv_out_channels
        dependencies.get_pruning_group(layer, by, idxs=dropped).prune()
    return theirs


@pytest.mark.parametrize("pruned", EXPORTED, indirect=True)
def test_the_cut_model_can_be_traced_exported_saved_and_loaded(pruned):
    assert_usable(pruned.cut, images())


def test_a_shuffled_split_and_normalized_cut_model_can_be_exported():
    blocks = [
        Shuffled(2),
        HalfProcessed(nn.Conv2d(4, 4, 3, padding=1)),
        ChannelsLast(8),
        Concatenated(nn.Conv2d(8, 4, 1)),
    ]
    model = randomized(nn.Sequential(nn.Conv2d(3, 8, 1), *blocks, nn.Conv2d(12, 2, 1)))
    graph = channel_graph(model, IMAGE)
    assert_usable(prune(model, graph, every_other(graph)), images())


def assert_usable(cut, inputs):
    expected = outputs(cut, inputs)
    torch.testing.assert_close(outputs(fx.symbolic_trace(cut), inputs), expected)
    torch.testing.assert_close(outputs(torch.export.export(cut, (inputs,)).module(), inputs), expected)
    blank = copy.deepcopy(cut)
    for tensor in blank.state_dict().values():
        tensor.zero_()
    blank.load_state_dict(cut.state_dict())
    assert torch.equal(outputs(blank, inputs), expected)


@pytest.mark.parametrize("pruned", ["googlenet", "efficientnet_b0"], indirect=True)
def test_the_cut_model_runs_and_learns_in_training_mode(pruned):
    # GoogLeNet's side heads run in training only; EfficientNet drops whole blocks then.
    model = copy.deepcopy(pruned.cut).train()
    result = model(images((2, 3, 64, 64)))
    heads = result if isinstance(result, tuple) else (result,)
    torch.stack([head.square().sum() for head in heads]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("pruned", ["googlenet"], indirect=True)
def test_masked_equals_cut_in_training_mode_too(pruned):
    masked = mask(pruned.model, pruned.graph, pruned.selection)
    heads = []
    for model in (masked, copy.deepcopy(pruned.cut)):
        for layer in model.train().modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        heads.append(outputs(model, images((2, 3, 64, 64))))
    assert len(heads[0]) == 3
    for ours, theirs in zip(*heads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_the_packages_example_halves_a_network(capsys):
    example = compression.pruning.__doc__.split('python -c "')[1].split('"')[0]
    exec(textwrap.dedent(example), {})
    parameters = int(capsys.readouterr().out.splitlines()[-1])
    assert 0.49 < parameters / parameter_count(torchvision.models.resnet18()) <= 0.5


def test_full_size_networks_are_followed_without_data():
    with torch.device("meta"):
        model = torchvision.models.vgg16_bn(weights=None)
    graph = channel_graph(model, (3, 224, 224))
    kept = {group.name: torch.arange(len(group.units) // 2) for group in graph.groups}
    # All widths halved: 13 convolutions with BN, two hidden layers and the classifier.
    widths = [3, 32, 32, 64, 64, 128, 128, 128, 256, 256, 256, 256, 256, 256]
    convolutions = sum(9 * before * after + 3 * after for before, after in pairwise(widths))
    linear = (256 * 49 + 1) * 2048 + 2049 * 2048 + 2049 * 1000
    assert parameter_count(prune(model, graph, kept)) == convolutions + linear
