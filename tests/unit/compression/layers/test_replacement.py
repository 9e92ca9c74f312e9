import ast
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from random_networks import convolutions
from torch import nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from compression.architecture.grouping import grouped
from compression.layers.replacement import (
    convolution_like,
    replace_convolutions,
    replace_layers,
    replaceable_layers,
)

properties = settings(deadline=None, max_examples=40)


@given(convolutions())
@properties
def test_a_convolution_like_another_computes_the_same_with_its_weights(conv):
    like = convolution_like(conv, conv.in_channels, conv.out_channels)
    like.load_state_dict(conv.state_dict())
    images = torch.randn(2, conv.in_channels, 7, 6, dtype=torch.float64)
    assert torch.equal(like(images), conv(images))


def test_dtype_and_training_flag_are_kept():
    conv = nn.Conv2d(4, 4, 3).double().eval()
    like = convolution_like(conv, 2, 6)
    assert {parameter.dtype for parameter in like.parameters()} == {torch.float64}
    assert not like.training


def nested_model():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)),
        nn.Flatten(),
        nn.Linear(8 * 16, 2),
    )


def test_convolutions_are_replaced_by_name_in_a_copy():
    model = nested_model()
    before = list(model.modules())
    rewritten = replace_convolutions(model, lambda name, conv: grouped(conv, 4) if name == "1.1" else None)
    assert rewritten[1][1].groups == 4
    assert rewritten[0].groups == 1
    assert torch.equal(rewritten[0].weight, model[0].weight)
    assert rewritten[0].weight is not model[0].weight
    assert list(model.modules()) == before
    assert rewritten(torch.zeros(1, 3, 4, 4)).shape == (1, 2)


def test_only_convolutions_are_offered_with_the_names_of_get_submodule():
    model = nested_model()
    offered = {}
    replace_convolutions(model, lambda name, conv: offered.update({name: conv}))
    assert list(offered) == ["0", "1.1"]
    assert all(offered[name].weight.shape == model.get_submodule(name).weight.shape for name in offered)


def test_a_model_that_is_itself_a_convolution_is_replaced():
    assert replace_convolutions(nn.Conv2d(4, 4, 3), lambda name, conv: grouped(conv, 2)).groups == 2


def test_a_shared_layer_is_rewritten_once_and_stays_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv, nn.Sequential(conv))
    names = []

    def rewrite(name, layer):
        names.append(name)
        return grouped(layer, 2)

    rewritten = replace_convolutions(model, rewrite)
    assert names == ["0"]
    assert rewritten[0] is rewritten[2]
    assert rewritten[0] is rewritten[3][0]
    assert rewritten[0].groups == 2


def test_what_replaces_a_module_is_not_searched_itself():
    rewritten = replace_layers(
        nested_model(), lambda name, layer: nn.Sequential(nn.ReLU()) if isinstance(layer, nn.ReLU) else None
    )
    assert isinstance(rewritten[1][0][0], nn.ReLU)


def test_layers_to_replace_are_of_the_exact_kind_and_the_others_are_told_of():
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Own(4, 4, 3), nn.Linear(4, 4))
    layers, left = replaceable_layers(model, (nn.Conv2d,))
    assert layers == {"0": model[0]}
    assert left == {"2": "is a Own, not a Conv2d", "3": "is a Linear, not a Conv2d"}


def test_a_module_to_skip_takes_what_it_holds_along_and_no_other_of_a_longer_name():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2)), "aa": nn.Linear(2, 2)})
    layers, left = replaceable_layers(model, (nn.Linear,), skip=["a"])
    assert layers == {"aa": model["aa"]}
    assert left == {"a.0": "is to be skipped"}
    assert replaceable_layers(model, (nn.Linear,), skip=[""])[0] == {}
    with pytest.raises(ValueError, match="skip names 'b', which the model doesn't hold"):
        replaceable_layers(model, (nn.Linear,), skip=["b"])


def weights_read_from_children():
    """What forward methods of torch and torchvision read directly: the children by class."""
    found = {}
    sources = [path for package in (nn.modules, torchvision) for path in Path(package.__file__).parent.rglob("*.py")]
    for kind in (node for path in sources for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(kind, ast.ClassDef):
            for method in (node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "forward"):
                read = (ast.unparse(node) for node in ast.walk(method) if isinstance(node, ast.Attribute))
                paths = [path.removeprefix("self.") for path in read if path.startswith("self.")]
                children = {path.removesuffix(".weight") for path in paths if path.endswith(".weight")}
                found |= {kind.name: children} if children else {}
    return found


READERS = {
    "LinearCrossEntropyLoss": lambda: nn.LinearCrossEntropyLoss(4, 3),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2),
    "ShiftedWindowAttention": lambda: ShiftedWindowAttention(4, [2, 2], [0, 0], 2),
    "ShiftedWindowAttention3d": lambda: ShiftedWindowAttention3d(4, [2, 2, 2], [0, 0, 0], 2),
    "ShiftedWindowAttentionV2": lambda: ShiftedWindowAttentionV2(4, [2, 2], [0, 0], 2),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(4, 2, 8),
}


def test_no_layer_is_replaced_whose_weight_torch_or_torchvision_reads():
    found = weights_read_from_children()
    assert {"MultiheadAttention", "ShiftedWindowAttention", "TransformerEncoderLayer"} <= set(found)
    for kind, children in found.items():
        module = READERS[kind]()
        read = {child for child in children if isinstance(module.get_submodule(child), nn.Linear)}
        for child in read:
            module.set_submodule(child, nn.Linear(4, 4))
        layers, left = replaceable_layers(module, (nn.Linear,))
        assert read
        assert not read & set(layers)
        assert all(left[child].endswith("which reads its weight") for child in read)
