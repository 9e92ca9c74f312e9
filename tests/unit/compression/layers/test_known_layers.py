import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from compression.layers import known_layers as layers


def own(rows):
    return [row.tolist() for row in rows]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(4, 6, 1), []),
        (nn.BatchNorm2d(4), []),
        (nn.Conv2d(4, 4, 1, groups=4), [[[0, 10], [1, 11], [2, 12], [3, 13]]]),
        (nn.Conv2d(4, 8, 1, groups=2), [[[0, 1, 10, 11, 12, 13], [2, 3, 14, 15, 16, 17]]]),
        (nn.Conv2d(8, 4, 1, groups=2), [[[0, 4], [1, 5], [2, 6], [3, 7]], [[10, 12], [11, 13]]]),
        (nn.GroupNorm(2, 4), [[[0, 1], [2, 3]]]),
        (nn.GroupNorm(1, 4), [[[0], [1], [2], [3]]]),
    ],
)
def test_what_hangs_together_in_a_layer(layer, expected):
    inputs = torch.arange(getattr(layer, "in_channels", 4))
    outputs = torch.arange(10, 10 + getattr(layer, "out_channels", 4))
    assert own(layers.tied_rows(layer, inputs, outputs)) == expected


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(4, 6, 1), (2, 4, 5, 5), 1),
        (nn.Linear(4, 6), (2, 5, 4), 2),
        (nn.BatchNorm1d(4), (2, 4), 1),
        (nn.LayerNorm(4), (2, 4, 4, 4), 3),
        (nn.LayerNorm((4, 4)), (2, 4, 4), None),
    ],
)
def test_the_dimension_of_channels(layer, shape, expected):
    assert layers.channel_dim(layer, shape) == expected


class ChannelsFirstNorm(nn.LayerNorm):
    def forward(self, inputs):
        return super().forward(inputs.movedim(1, -1)).movedim(-1, 1)


def test_a_layer_norm_of_another_dimension_is_told_by_its_size():
    assert layers.channel_dim(ChannelsFirstNorm(4), (2, 4, 5, 5)) == 1
    assert layers.channel_dim(ChannelsFirstNorm(4), (2, 4, 4, 5)) is None
    assert layers.is_known(ChannelsFirstNorm(4))


class Doubling:
    def forward(self, inputs):
        return 2 * super().forward(inputs)


@pytest.mark.parametrize("base", [nn.Conv2d, nn.ConvTranspose1d, nn.BatchNorm3d])
def test_a_subclass_that_computes_the_same_is_known(base):
    own = type("Own", (base,), {"size": 1})
    assert layers.computing_type(own) is base
    assert layers.is_known(own(*(1, 1, 1)[: 1 if base is nn.BatchNorm3d else 3]))


@pytest.mark.parametrize(
    "change",
    [
        {"forward": lambda self, inputs: inputs},
        {"_conv_forward": lambda self, inputs, weight, bias: inputs},
        {"weight": property(lambda self: 1.0)},
    ],
)
def test_a_subclass_that_changes_the_computation_is_its_own_type(change):
    own = type("Own", (nn.Conv2d,), change)
    assert layers.computing_type(own) is own


def test_other_subclasses_and_layers_are_not_known():
    assert layers.computing_type(type("Mixed", (Doubling, nn.Linear), {})) is not nn.Linear
    assert not layers.is_known(type("Mixed", (Doubling, nn.Linear), {})(1, 1))
    assert not layers.is_known(parametrizations.weight_norm(nn.Conv2d(1, 1, 1)))
    assert not layers.is_known(nn.Bilinear(1, 1, 1))
    assert layers.is_known(nn.PReLU())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, bias=False),
        nn.Conv1d(8, 4, 3, groups=2),
        nn.Conv2d(6, 12, 3, groups=6),
        nn.ConvTranspose2d(8, 4, 3, groups=2),
        nn.ConvTranspose3d(4, 8, 1, groups=4),
        nn.Linear(4, 6),
        nn.BatchNorm2d(4),
        nn.InstanceNorm2d(4),
        nn.LayerNorm(4, bias=False),
        nn.PReLU(4),
        nn.PReLU(),
    ],
)
def test_a_layer_cut_along_its_axes_is_one_built_with_fewer_channels(layer):
    inputs = getattr(layer, "in_channels", getattr(layer, "in_features", 4))
    outputs = getattr(layer, "out_channels", getattr(layer, "out_features", 4))
    # Half of the channels go, in each group or by whole groups.
    keep_in, keep_out = (torch.arange(size) % 2 == 0 for size in (inputs, outputs))
    if layers.gives_up_groups(layer):
        keep_in, keep_out = (torch.arange(size) < size // 2 for size in (inputs, outputs))
    for axis in layers.axes(layer, torch.arange(inputs), torch.arange(outputs)):
        keep = keep_in if axis.reads or not layers.makes_channels(layer) else keep_out
        if layers.gives_up_groups(layer) and isinstance(layer, nn.ConvTranspose3d) and axis.tensor == "weight":
            keep = keep_in
        tensor = getattr(layer, axis.tensor)
        index = keep[axis.units].nonzero().flatten()
        cut = tensor.detach().index_select(axis.dim, index)
        setattr(layer, axis.tensor, nn.Parameter(cut) if isinstance(tensor, nn.Parameter) else cut)
    layers.resize(layer, keep_in, keep_out)
    built = rebuilt(layer)
    assert repr(layer) == repr(built)
    shapes = {name: tensor.shape for name, tensor in built.state_dict().items()}
    assert {name: tensor.shape for name, tensor in layer.state_dict().items()} == shapes


def rebuilt(layer):
    kind = type(layer)
    if hasattr(layer, "kernel_size"):
        bias = layer.bias is not None
        return kind(layer.in_channels, layer.out_channels, layer.kernel_size, groups=layer.groups, bias=bias)
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features)
    if isinstance(layer, nn.LayerNorm):
        return nn.LayerNorm(layer.normalized_shape, bias=False)
    return kind(getattr(layer, "num_features", getattr(layer, "num_parameters", 0)))


def test_only_layers_that_average_over_channels_need_a_masked_form():
    averaging = [nn.LayerNorm(4), nn.GroupNorm(1, 4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.BatchNorm2d(4)]
    assert [layers.averages_channels(layer) for layer in averaging] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(4), (2, 4)),
        (nn.BatchNorm1d(4), (2, 4, 3)),
        (nn.BatchNorm2d(4), (2, 4, 3, 5)),
        (nn.BatchNorm3d(4), (2, 4, 3, 5, 1)),
    ],
)
def test_a_plain_batch_norm_gives_outputs_of_its_inputs_shape(layer, shape):
    assert layers.is_plain_batch_norm(layer, shape)
    assert layer.eval()(torch.zeros(shape)).shape == shape


def hooked_batch_norm():
    layer = nn.BatchNorm2d(4)
    layer.register_forward_hook(lambda module, inputs, output: output.flatten(1))
    return layer


class OwnBatchNorm(nn.BatchNorm2d):
    def forward(self, images):
        return super().forward(images).flatten(1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm2d(4), (2, 5, 3, 3)),
        (nn.BatchNorm2d(4), (2, 4)),
        (nn.BatchNorm2d(4), (2,)),
        (nn.GroupNorm(1, 4), (2, 4, 3, 3)),
        (hooked_batch_norm(), (2, 4, 3, 3)),
        (OwnBatchNorm(4), (2, 4, 3, 3)),
    ],
)
def test_what_may_give_another_shape_or_take_no_such_input_is_no_plain_batch_norm(layer, shape):
    assert not layers.is_plain_batch_norm(layer, shape)
