"""Which channels of a model can be cut, and which only together (Fang et al., DepGraph, 2023).

For a simple network Conv2d(3, 4) -> BatchNorm2d(4) -> ReLU -> Conv2d(4, 2), its layers named 0, 1, 2 and 3, there is
one group of four units. Unit i is channel i of layer 0. To cut it is to cut

    0.weight[i], 0.bias[i]                                          which make the channel,
    1.weight[i], 1.bias[i], 1.running_mean[i], 1.running_var[i]     which normalize it,
    3.weight[:, i]                                                  which read it.

The two channels of layer 3 are the model's output and must stay:

    print(channel_graph(network, (3, 8, 8)))

         4 units: 0
         2 channels of 3 stay: it is the model's output (at 'output')

Where a model adds the outputs of two layers, as a residual block does, the layers are in one group, and unit i is
channel i of both: they go together or not at all. Behind a `flatten`, a unit's part of a linear layer's inputs are all
positions of its channel.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from compression.layers import known_layers
from compression.layers.channel_order import ChannelOrder
from compression.layers.known_layers import Axis
from compression.layers.names import name_within
from compression.pruning.channels import slices, varying_dims
from compression.pruning.record import Call, Trace
from compression.pruning.rules import standard_rules
from compression.pruning.tracing import trace
from compression.pruning.units import Numbering, number_units


@dataclass(frozen=True)
class Group:
    """Layers that share channels, so that cutting channels of one cuts those of the others.

    Attributes:
        name: The first of `layers`.
        layers: Those that make the channels: convolutions and linear layers.
        norms: Those that scale them: normalization layers.
        units: Numbers of its units, the smallest sets of channels that can go, in the order of the first layer's
            channels.
    """

    name: str
    layers: tuple[str, ...]
    norms: tuple[str, ...]
    units: range


@dataclass(frozen=True)
class Unprunable:
    """A layer of which output channels can't go, and why.

    Attributes:
        layer: Its name.
        channels: How many must stay.
        reason: Why the first of them must.
    """

    layer: str
    channels: int
    reason: str


@dataclass(frozen=True, eq=False)
class LayerChannels:
    """The unit of each channel that a layer takes and gives, -1 for one that stays.

    Attributes:
        inputs: int64 of shape (input channels,).
        outputs: int64 of shape (output channels,).
        dim: Dimension of its input along which they lie.
        shape: Shape of its input, for a batch of two.
    """

    inputs: Tensor
    outputs: Tensor
    dim: int
    shape: tuple[int, ...]

    @property
    def dim_from_end(self) -> int:
        """The dimension counted from the last, which is -1."""
        return self.dim - len(self.shape)


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channels of a model; made by `channel_graph`.

    Attributes:
        groups: The groups of units that can be pruned.
        unprunable: The layers that can't, with the reasons; a layer may be in both if some of its channels can go.
        layers: Every layer that was called and can be followed, by name.
        free: Parameters and buffers that belong to no known layer, as a scale that the model itself multiplies by: the
            dimension of each that is cut.
        input_shape: Shape of one input, without the batch.
    """

    groups: tuple[Group, ...]
    unprunable: tuple[Unprunable, ...]
    layers: Mapping[str, LayerChannels]
    free: Mapping[str, Axis]
    input_shape: tuple[int, ...]

    @property
    def unit_count(self) -> int:
        """The number of units of all groups; they are numbered from 0 through the groups."""
        return self.groups[-1].units.stop if self.groups else 0

    def group(self, name: str) -> Group:
        """Return the group of which a layer makes channels.

        Raises:
            ValueError: If no group makes its channels in a layer of this name.
        """
        for group in self.groups:
            if name in group.layers:
                return group
        reasons = [f": {layer.reason}" for layer in self.unprunable if layer.layer == name]
        raise ValueError(f"layer {name!r} has no channels that can be pruned{''.join(reasons)}")

    def layer_axes(self, model: nn.Module) -> Iterator[tuple[str, Axis]]:
        """Yield all dimensions that shrink, each with the full name of its parameter or buffer."""
        for name, channels in self.layers.items():
            for axis in known_layers.axes(model.get_submodule(name), channels.inputs, channels.outputs):
                yield name_within(name, axis.tensor), axis
        yield from self.free.items()

    def __str__(self) -> str:
        rows = [f"{len(group.units):6d} units: {', '.join(group.layers)}" for group in self.groups]
        rows += [f"{layer.channels:6d} channels of {layer.layer} stay: {layer.reason}" for layer in self.unprunable]
        return "\n".join(rows)


def channel_graph(model: nn.Module, input_shape: tuple[int, ...]) -> ChannelGraph:
    """Find out which channels of a model can be cut, and which only together.

    The model is traced with numbers of channels in place of values. Channels that can't be followed stay, with the
    reason: those that meet an index, a flag or a buffer that is in no state dict (a file of the cut model could not
    bring it back), and those of a LayerNorm's subclass that has further tensors.

    Args:
        model: Any that `torch.fx` can trace, in training and in evaluation mode; stays as it is.
        input_shape: Shape of one input, without the batch, as small as the model can take: (3, 32, 32).

    Raises:
        ValueError: If the model can't be traced or can't take such an input; the message names the operation.
    """
    if any(size < 1 for size in input_shape):
        raise ValueError(f"input_shape is {input_shape}; every size must be at least 1")
    met = trace(model, input_shape, standard_rules(), Trace())
    numbering = number_units(model, met)
    of = numbering.units
    first: dict[str, Call] = {}
    for call in met.calls:
        first.setdefault(call.layer, call)
    found = {
        name: LayerChannels(of(call.inputs), of(call.outputs), call.dim, call.shape) for name, call in first.items()
    }
    free = {name: axis for name, ids in met.free.items() if (axis := _free_axis(name, of(ids))) is not None}
    groups = _groups(model, found, numbering.groups)
    return ChannelGraph(groups, tuple(_unprunable(model, met, numbering, found, free)), found, free, input_shape)


def _groups(model: nn.Module, found: Mapping[str, LayerChannels], ranges: list[range]) -> tuple[Group, ...]:
    made: list[list[str]] = [[] for _ in ranges]
    scaled: list[list[str]] = [[] for _ in ranges]
    of_unit = {unit: place for place, units in enumerate(ranges) for unit in units}
    for name, channels in found.items():
        layer = model.get_submodule(name)
        for place in sorted({of_unit[unit] for unit in set(channels.outputs.tolist()) if unit >= 0}):
            if known_layers.makes_channels(layer):
                made[place].append(name)
            elif not isinstance(layer, nn.PReLU | ChannelOrder):
                scaled[place].append(name)
    return tuple(
        Group(names[0], tuple(names), tuple(norms), units)
        for names, norms, units in zip(made, scaled, ranges, strict=True)
    )


def _unprunable(
    model: nn.Module,
    met: Trace,
    numbering: Numbering,
    found: Mapping[str, LayerChannels],
    free: Mapping[str, Axis],
) -> Iterator[Unprunable]:
    called = {call.layer for call in met.calls}
    for name, layer in model.named_modules():
        if name in called and known_layers.makes_channels(layer):
            stays = found[name].outputs < 0
            if stays.any():
                yield Unprunable(name, int(stays.sum()), numbering.reason(met.outputs[name][stays][0]))
        elif name not in called and next(layer.parameters(recurse=False), None) is not None:
            yield from _not_followed(name, layer, met, numbering, free)


def _not_followed(
    name: str, layer: nn.Module, met: Trace, numbering: Numbering, free: Mapping[str, Axis]
) -> Iterator[Unprunable]:
    if known_layers.is_known(layer):
        yield Unprunable(name, len(next(layer.parameters(recurse=False))), _why_not_called(name, met))
        return
    own = {name_within(name, key): parameter for key, parameter in layer.named_parameters(recurse=False)}
    staying = [key for key, parameter in own.items() if key not in free and parameter.numel()]
    if staying:
        first, reason = own[staying[0]], f"a {type(layer).__name__} can't be followed"
        if staying[0] in met.free:
            reason = numbering.reason(met.free[staying[0]].flatten()[0])
        yield Unprunable(name, len(first) if first.ndim else 1, reason)


def _why_not_called(name: str, met: Trace) -> str:
    """Return the reason of the layer, or of the innermost module around it that has one."""
    while name and name not in met.pinned_layers:
        name = name.rpartition(".")[0]
    return met.pinned_layers.get(name, "it is never called")


def _free_axis(name: str, units: Tensor) -> Axis | None:
    """Return the dimension of a parameter along which units lie; None if nothing of it can go."""
    if bool((units < 0).all()):
        return None
    (dim,) = varying_dims(units)
    return Axis(name, dim, slices(units, dim)[:, 0])
