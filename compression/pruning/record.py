"""What is met when channels are followed through a model: calls of layers, channels that hang together or must stay."""

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_map

from compression.pruning.channels import Channels, slices, stored, uniform

T = TypeVar("T")
Arguments = tuple[tuple[object, ...], dict[str, object]]


class NotUnderstoodError(Exception):
    """An operation may mix channels; the message says how, and all its channels must stay."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer.

    Attributes:
        layer: Its name.
        inputs: int64 ids of shape (input channels,).
        outputs: int64 ids of shape (output channels,).
        dim: Dimension of the input along which they lie.
        shape: Shape of the input.
    """

    layer: str
    inputs: Tensor
    outputs: Tensor
    dim: int
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Tie:
    """Channels that must go or stay together: first[i] and second[i], because of an operation named `node`."""

    first: Tensor
    second: Tensor
    node: str


@dataclass(frozen=True, eq=False)
class Pin:
    """Channels that must stay, and why."""

    ids: Tensor
    reason: str


@dataclass(eq=False)
class Trace:
    """What is met while channels are followed.

    Attributes:
        outputs: Ids of the channels that a layer makes, by its name. Given ones are used, missing ones numbered.
        free: Ids, in its shape, of a parameter or buffer that the model itself adds or multiplies, by its name; as
            `outputs`.
        first_number: The first id that `numbers` gives.
        calls: Calls of layers, in order.
        ties: Channels that hang together.
        pins: Channels that must stay.
        pinned_layers: Why a layer must stay as it is, by its name: something else uses its tensors as well.
    """

    outputs: dict[str, Tensor] = field(default_factory=dict)
    free: dict[str, Tensor] = field(default_factory=dict)
    first_number: int = 0
    calls: list[Call] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    pinned_layers: dict[str, str] = field(default_factory=dict)
    _numbered: int = 0
    _reasons: list[str] = field(default_factory=list)
    _node: str = ""

    def numbers(self, known: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
        """Return the ids kept under a name; they are numbered at its first use."""
        if name not in known:
            count = int(torch.Size(shape).numel())
            start = self.first_number + self._numbered
            known[name] = torch.arange(start, start + count).view(shape)
            self._numbered += count
        return known[name]

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Tie ids entry by entry, after broadcasting; pin one that meets a channel which must stay."""
        shape = np.broadcast_shapes(first.shape, second.shape)
        first, second = first.expand(shape).flatten(), second.expand(shape).flatten()
        different = first != second
        first, second = first[different], second[different]
        for one, other in ((first, second), (second, first)):
            for fixed in np.unique(other[(one >= 0) & (other < 0)].numpy()).tolist():
                self.pins.append(Pin(one[other == fixed], self._reasons[-fixed - 1]))
        both = (first >= 0) & (second >= 0)
        if both.any():
            self.ties.append(Tie(first[both], second[both], self._node))

    def tie_slices(self, ids: Tensor, dim: int) -> Tensor:
        """Tie all that lies in one slice along a dimension; return one id for each slice."""
        rows = slices(stored(ids), dim)
        self.tie(rows[:, :1], rows)
        return rows[:, 0].expand(ids.shape[dim])

    def pin(self, ids: Tensor, reason: str) -> None:
        """Note that channels must stay, and why."""
        ids = stored(ids).flatten()
        if (ids >= 0).any():
            self.pins.append(Pin(ids[ids >= 0], f"{reason} (at {self._node!r})"))

    def fixed(self, shape: tuple[int, ...], reason: str) -> Channels:
        """Make channels that must stay, as must all that they meet."""
        reason = f"{reason} (at {self._node!r})" if self._node else reason
        self._reasons.append(reason)
        return uniform(shape, -len(self._reasons))

    def refuse(self, arguments: Arguments, node: fx.Node, shadow: nn.Module, reason: str) -> object:
        """Pin all channels in the arguments of an operation that isn't understood; its results must stay, too."""
        for leaf in tree_flatten(arguments)[0]:
            if isinstance(leaf, Channels):
                self.pin(leaf.ids, reason)
        result = run_on_meta(node, shadow, arguments)
        return tree_map(lambda leaf: self.fixed(tuple(leaf.shape), reason) if is_floating(leaf) else leaf, result)

    @contextmanager
    def at(self, node: fx.Node) -> Iterator[None]:
        """Name an operation as the cause of ties, pins and errors in this block."""
        self._node = node.name
        try:
            yield
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"operation {node.name!r} ({node.target}): can't follow its channels: {error}") from error


def is_floating(value: object) -> TypeGuard[Tensor]:
    """Tell whether a value is a tensor whose channels are followed; indices and flags stay tensors without data."""
    return isinstance(value, Tensor) and value.is_floating_point()


def on_meta(value: T) -> T:
    """Replace channels by float32 tensors without data; keep other values, in whatever structure, as they are."""
    empty: T = tree_map(
        lambda leaf: torch.empty(leaf.ids.shape, device="meta") if isinstance(leaf, Channels) else leaf, value
    )
    return empty


def run_on_meta(node: fx.Node, shadow: nn.Module, arguments: Arguments) -> object:
    """Return what an operation gives for tensors without data."""
    args, kwargs = on_meta(arguments)
    with torch.device("meta"):
        if node.op == "call_module":
            return shadow.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return operator.methodcaller(str(node.target), *args[1:], **kwargs)(args[0])
        assert callable(node.target)
        return node.target(*args, **kwargs)


def as_channels(into: Trace, value: object) -> Channels:
    """Return channels as they are; give a tensor that isn't the model's channels that must stay."""
    if isinstance(value, Tensor):
        kind = "a constant" if is_floating(value) else f"a tensor of {value.dtype}"
        return into.fixed(tuple(value.shape), f"{kind} has fixed channels")
    if not isinstance(value, Channels):
        raise NotUnderstoodError(f"a {type(value).__name__} is not a tensor")
    return value


def first_channels(arguments: Arguments) -> Channels:
    """Return an operation's input.

    Raises:
        NotUnderstoodError: If it isn't an activation.
    """
    value = argument(arguments, 0, "input", None)
    if not isinstance(value, Channels):
        raise NotUnderstoodError("an operation has its input at another place than usual")
    return value


def argument(arguments: Arguments, place: int, name: str, default: object) -> object:
    """Return an argument that may be given by place or by name."""
    args, kwargs = arguments
    return args[place] if len(args) > place else kwargs.get(name, default)


def operation_name(node: fx.Node, shadow: nn.Module | None = None) -> str:
    """Return what an operation is called: a function, a method, or the type of a layer of `shadow`."""
    if node.op == "call_module" and shadow is not None:
        return type(shadow.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))
