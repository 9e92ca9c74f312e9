import copy
import json

import pytest
from hypothesis import given, settings
from random_graphs import draw_network, network_plans
from torch import nn

from compression.layers.channel_order import ChannelOrder
from compression.layers.masked_layers import MaskedNorm
from compression.packing.container import PackedFileError
from compression.packing.layer_table import LAYER_TYPES, apply_layer_table, describe_layer, describe_layers

LAYERS = [
    nn.Conv1d(4, 6, 3, stride=2, groups=2, bias=False),
    nn.Conv2d(3, 5, (3, 1), padding="same", padding_mode="reflect"),
    nn.Conv2d(3, 5, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1)),
    nn.Conv3d(1, 2, 2),
    nn.ConvTranspose1d(2, 2, 3, stride=2, output_padding=1),
    nn.ConvTranspose2d(4, 2, (2, 3), stride=(2, 3), output_padding=(1, 2), groups=2),
    nn.ConvTranspose3d(1, 1, 1, bias=False),
    nn.Linear(3, 4, bias=False),
    nn.Embedding(5, 3, padding_idx=2),
    nn.BatchNorm1d(3, eps=1e-3, momentum=None),
    nn.BatchNorm2d(3, affine=False),
    nn.BatchNorm3d(3, track_running_stats=False),
    nn.SyncBatchNorm(3, momentum=0.2),
    nn.InstanceNorm1d(2, affine=True),
    nn.InstanceNorm2d(2),
    nn.InstanceNorm3d(2, track_running_stats=True),
    nn.GroupNorm(2, 4, affine=False),
    nn.LayerNorm((3, 3), bias=False),
    nn.LayerNorm(7, elementwise_affine=False),
    nn.PReLU(4),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.SiLU(),
    nn.Hardswish(),
    nn.GELU(approximate="tanh"),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Identity(),
    ChannelOrder(6),
    MaskedNorm("1011", -3, over_positions=True, eps=0.1, bias=False),
    MaskedNorm("0001", -1, affine=False),
]


def test_the_examples_cover_every_type():
    assert {type(layer) for layer in LAYERS} == set(LAYER_TYPES)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_layer_is_rebuilt_in_place_of_another(layer):
    model = nn.Sequential(nn.Linear(1, 1))
    table = json.loads(json.dumps(describe_layers(nn.Sequential(layer))))
    assert apply_layer_table(model, table) is model
    assert str(model[0]) == str(layer)
    assert describe_layer(model[0]) == describe_layer(layer)
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in layer.state_dict().items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in model[0].state_dict().items()} == shapes
    assert all(tensor.is_meta for tensor in model.state_dict().values())


@given(network_plans, network_plans)
@settings(deadline=None, max_examples=25)
def test_a_network_takes_the_layers_of_any_other_of_its_kind(plan, other):
    model, _ = draw_network(plan)
    target, _ = draw_network(other)
    count = min(len(model.blocks), len(target.blocks))
    model.blocks, target.blocks = model.blocks[:count], target.blocks[:count]
    apply_layer_table(model, describe_layers(target))
    assert [(name, str(module)) for name, module in model.named_modules() if not list(module.children())] == [
        (name, str(module)) for name, module in target.named_modules() if not list(module.children())
    ]


def test_equal_layers_stay_the_very_same_and_shared_ones_shared():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Linear(2, 3), shared)
    before = list(model)
    table = describe_layers(model)
    apply_layer_table(model, table)
    assert all(a is b for a, b in zip(model, before, strict=True))
    next(row for row in table if row["name"] == "0")["in_features"] = 9
    apply_layer_table(model, table)
    assert model[0] is model[2]
    assert model[0].in_features == 9
    assert model[1] is before[1]


def test_a_sequential_keeps_the_bases_own_children_by_name():
    base = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.MaxPool1d(2)))
    pool = base[0][1]
    target = copy.deepcopy(base)
    target[0].append(nn.Linear(1, 1))
    apply_layer_table(base, describe_layers(target))
    assert base[0][1] is pool
    assert str(base) == str(target)


def test_a_child_that_nobody_describes_is_an_error():
    target = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.MaxPool1d(2)))
    with pytest.raises(PackedFileError, match=r"layer '0\.1': neither the file nor the base model says what it is"):
        apply_layer_table(nn.Sequential(nn.Linear(2, 2)), describe_layers(target))


CONV = {"type": "Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1, "bias": True}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"type": "Linear", "in_features": -1, "out_features": 1}, "Linear can't have in_features = -1"),
        ({"type": "Linear", "in_features": True, "out_features": 1}, "Linear can't have in_features = True"),
        ({"type": "Linear", "in_features": 1 << 40, "out_features": 1}, "Linear can't have in_features"),
        ({"type": "Linear", "in_features": 1}, "no Linear can have"),
        ({"type": "Linear", "in_features": 1, "out_features": 1, "device": "cpu"}, "Linear can't have device = cpu"),
        ({"type": "Module"}, "type 'Module' is not one that files may build"),
        ({"type": "os.system"}, "type 'os.system' is not one"),
        ({"type": ["Linear"]}, "is not one that files may build"),
        ({"type": None}, "type 'None' is not one"),
        ({**CONV, "groups": 3}, "no Conv2d can have"),
        ({**CONV, "kernel_size": [1] * 9}, "Conv2d can't have kernel_size"),
        ({**CONV, "kernel_size": [1, 1, 1]}, r"Conv2d can't have kernel_size = \[1, 1, 1\]"),
        ({**CONV, "padding": "evil"}, "Conv2d can't have padding = evil"),
        ({**CONV, "padding_mode": "evil"}, "Conv2d can't have padding_mode = evil"),
        ({**CONV, "in_channels": 1 << 30, "out_channels": 1 << 30, "kernel_size": 1 << 30}, "no Conv2d can have"),
        ({"type": "MaskedNorm", "kept": "11", "dim": 1}, "MaskedNorm can't have dim = 1"),
        ({"type": "MaskedNorm", "kept": "11", "dim": -9}, "MaskedNorm can't have dim = -9"),
        ({"type": "MaskedNorm", "kept": "00", "dim": -1}, "MaskedNorm can't have kept = 00"),
        ({"type": "MaskedNorm", "kept": "12", "dim": -1}, "MaskedNorm can't have kept = 12"),
        ({"type": "subclass of LayerNorm", "normalized_shape": [1]}, "has a ReLU, no subclass of LayerNorm"),
        ({"type": "Sequential", "children": ["a.b"]}, "a child can't be called 'a.b'"),
        ({"type": "Sequential", "children": ["forward"]}, "a child can't be called 'forward'"),
        ({"type": "Sequential", "children": ["__class__"]}, "a child can't be called '__class__'"),
        ({"type": "Sequential", "children": [1]}, "a child can't be called '1'"),
        ({"type": "Sequential", "children": ["a", "a"]}, "list of different 'children'"),
        ({"type": "Sequential", "children": "ab"}, "list of different 'children'"),
        ({"type": "Sequential"}, "list of different 'children'"),
    ],
)
def test_a_row_that_is_no_layer_is_an_error(row, message):
    with pytest.raises(PackedFileError, match=message):
        apply_layer_table(nn.Sequential(nn.ReLU()), [{"name": "0", **row}])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "a list of objects is needed"),
        ([[]], "a list of objects is needed"),
        ([{"name": 1}], "layer name '1' is no text"),
        ([{"name": "0", "type": "Tanh"}, {"name": "0", "type": "Tanh"}], "there twice"),
        ([{"name": "1", "type": "Tanh"}], "layer '1': the base model has no such layer"),
        ([{"name": "__class__", "type": "Tanh"}], "layer '__class__': the base model has no such layer"),
        ([{"name": "", "type": "Tanh"}], "the model as a whole is of another type"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(table, message):
    with pytest.raises(PackedFileError, match=message):
        apply_layer_table(nn.Sequential(nn.ReLU()), table)


class OwnNorm(nn.LayerNorm):
    pass


def test_a_subclass_of_layer_norm_is_the_bases_own_made_smaller():
    model = nn.Sequential(OwnNorm((3, 6), eps=0.5, bias=False))
    norm = model[0]
    norm.weight.requires_grad_(False)
    apply_layer_table(model, describe_layers(nn.Sequential(OwnNorm((3, 4)))))
    assert model[0] is norm
    assert (norm.normalized_shape, norm.eps, norm.bias) == ((3, 4), 0.5, None)
    assert norm.weight.shape == (3, 4)
    assert not norm.weight.requires_grad


@pytest.mark.parametrize("sizes", [[7], [3, 7], [4, 6], [3], [3, 0], [3, "6"], (3, 6), 6, None])
def test_a_subclass_of_layer_norm_is_made_no_larger(sizes):
    row = {"name": "0", "type": "subclass of LayerNorm", "normalized_shape": sizes}
    with pytest.raises(PackedFileError, match=r"layer '0': .* none larger, as the base model's \[3, 6\] are needed"):
        apply_layer_table(nn.Sequential(OwnNorm((3, 6))), [row])


class OwnLinear(nn.Linear):
    """Computes what a Linear does."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.note = "its own"


def test_a_subclass_that_computes_the_same_is_the_bases_own_with_other_sizes():
    model = nn.Sequential(OwnLinear(3, 4))
    layer = model[0]
    layer.weight.requires_grad_(False)
    table = describe_layers(nn.Sequential(nn.Linear(2, 4, bias=False)))
    assert describe_layers(nn.Sequential(OwnLinear(2, 4)))[1] == table[1] | {"bias": True}
    apply_layer_table(model, table)
    assert model[0] is layer
    assert (layer.in_features, layer.out_features, layer.bias, layer.note) == (2, 4, None, "its own")
    assert layer.weight.shape == (4, 2)
    assert not layer.weight.requires_grad


def test_layers_of_other_types_are_not_described():
    class Own(nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    assert describe_layer(Own(1, 1)) is None
    assert describe_layer(nn.MaxPool2d(2)) is None
    assert describe_layers(nn.ModuleList([Own(1, 1)])) == []
