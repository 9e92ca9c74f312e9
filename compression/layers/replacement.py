"""Layers of a model replaced in a copy of it, and which of them may be.

Every convolution followed by a dropout:

    wet = replace_convolutions(model, lambda name, conv: nn.Sequential(conv, nn.Dropout2d(0.1)))
"""

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar

import torch
from torch import nn

from compression.layers.names import name_within

LayerT = TypeVar("LayerT", nn.Linear, nn.Conv2d)
Rewrite = Callable[[str, nn.Module], nn.Module | None]

_WEIGHT_READERS: Final[Mapping[str, tuple[str, ...]]] = {
    "torch.nn.modules.activation.MultiheadAttention": ("out_proj",),
    "torch.nn.modules.loss.LinearCrossEntropyLoss": ("linear",),
    "torch.nn.modules.transformer.TransformerEncoderLayer": ("linear1", "linear2"),
    "torchvision.models.swin_transformer.ShiftedWindowAttention": ("qkv", "proj"),
    "torchvision.models.video.swin_transformer.ShiftedWindowAttention3d": ("qkv", "proj"),
}
"""Modules, subclasses included, that read weights of children instead of calling them. By name: none is imported."""


class Replacement(nn.Sequential):
    """Layers in a row that replace one layer of a model.

    Where the model's code reads what that layer had, such as `self.fc.weight`, an AttributeError says so, and that the
    layer must stay as it is.

    Attributes:
        layer_name: The replaced layer's name in the model; "" as long as these layers are in none.
    """

    layer_name: str = ""

    def __getattr__(self, name: str) -> torch.Tensor | nn.Module:
        """Look up what is no ordinary attribute: parameters, buffers and layers.

        Raises:
            AttributeError: If it is nothing of these layers.
        """
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            raise AttributeError(
                f"layer {self.layer_name!r} was replaced by several, which have no {name!r}: where the model's code "
                "reads it, the layer must stay as it is; leave it out of the plan, or name it in `skip`"
            ) from error


def convolution_like(
    conv: nn.Conv2d,
    in_channels: int,
    out_channels: int,
    *,
    groups: int = 1,
    bias: bool | None = None,
    device: torch.device | str | None = None,
) -> nn.Conv2d:
    """Make a fresh convolution with the kernel size, stride, padding and dilation of another.

    Args:
        conv: Gives also the dtype and training flag.
        in_channels: A multiple of `groups`.
        out_channels: A multiple of `groups`.
        groups: Groups of channels that don't see each other.
        bias: Whether it has a bias; as `conv` by default.
        device: Device of the weights; that of `conv` by default.
    """
    like = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size=(conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=conv.padding if isinstance(conv.padding, str) else (conv.padding[0], conv.padding[1]),
        dilation=(conv.dilation[0], conv.dilation[1]),
        groups=groups,
        bias=conv.bias is not None if bias is None else bias,
        padding_mode=conv.padding_mode,
        device=conv.weight.device if device is None else device,
        dtype=conv.weight.dtype,
    )
    return like.train(conv.training)


def replace_convolutions(model: nn.Module, rewrite: Callable[[str, nn.Conv2d], nn.Module | None]) -> nn.Module:
    """Return a copy of the model with convolutions replaced.

    Args:
        model: Stays as it is.
        rewrite: Called with the name, as in `get_submodule`, and the copy of each Conv2d; returns what
            takes its place, or None to keep it.
    """
    return replace_layers(model, lambda name, layer: rewrite(name, layer) if isinstance(layer, nn.Conv2d) else None)


def replace_layers(model: nn.Module, rewrite: Rewrite) -> nn.Module:
    """Return a copy of the model with any of its modules replaced.

    A module that occurs in several places is rewritten once, and its replacement shared in the same way. A
    `Replacement` is told the layer's name.

    Args:
        model: Stays as it is.
        rewrite: Called with the name, as in `get_submodule`, and the copy of each module, parents before
            children; returns what takes its place, or None to keep it and go on to its children.
    """
    return _replaced(copy.deepcopy(model), "", rewrite, {})


def _replaced(module: nn.Module, name: str, rewrite: Rewrite, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in done:
        return done[module]
    replacement = rewrite(name, module)
    done[module] = module if replacement is None else replacement
    if isinstance(replacement, Replacement):
        replacement.layer_name = name
    if replacement is None:
        # Not `named_children`, which leaves out a child's second name.
        for child_name, child in list(module._modules.items()):
            if child is not None:
                path = name_within(name, child_name)
                setattr(module, child_name, _replaced(child, path, rewrite, done))
    return done[module]


def replaceable_layers(
    model: nn.Module, kinds: Collection[type[nn.Module]], skip: Collection[str] = ()
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Sort a model's layers with weights into those that can be replaced one for one, and those that can't.

    Whether any other code than torch's and torchvision's reads a layer's weight can't be seen; see `Replacement`.

    Args:
        model: Looked through, and left as it is.
        kinds: The exact types that can be replaced. A subclass does not count: its owner may use its weight directly.
        skip: Names, as in `get_submodule`, of layers to leave out, or of modules that hold such.

    Returns:
        Two dicts by name. The first has the layers that can be replaced. The second tells why others stay: every other
        layer with a weight of two dimensions or more and, by its full name, every other parameter of as many
        dimensions, such as a recurrent layer's.

    Raises:
        ValueError: If `skip` names no module.
    """
    named = dict(model.named_modules())
    for name in skip:
        if name not in named:
            raise ValueError(f"skip names {name!r}, which the model doesn't hold")
    owners = Counter(parameter for module in named.values() for parameter in module.parameters(recurse=False))
    readers = {child: type(module).__name__ for module in named.values() for child in _read_directly(module)}
    skipped = {name for name in named if any(not at or name == at or name.startswith(f"{at}.") for at in skip)}
    wanted = " or ".join(kind.__name__ for kind in kinds)
    layers: dict[str, nn.Module] = {}
    left: dict[str, str] = {}
    for name, module in named.items():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.dim() < 2:
            continue
        if name in skipped:
            left[name] = "is to be skipped"
        elif type(module) not in kinds:
            left[name] = f"is a {type(module).__name__}, not a {wanted}"
        elif module in readers:
            left[name] = f"belongs to a {readers[module]}, which reads its weight"
        elif owners[weight] != 1:
            left[name] = "shares its weight with another layer" if owners[weight] else "computes its weight"
        elif module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            left[name] = "has hooks, which would be lost"
        else:
            layers[name] = module
    told = {parameter for name in (*layers, *left) for parameter in _own_parameters(named[name])}
    for name, module in named.items():
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.dim() > 1 and parameter not in told:
                reason = f"belongs to a {type(module).__name__}, not a {wanted}"
                left[name_within(name, key)] = "is to be skipped" if name in skipped else reason
    return layers, left


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return a module's parameters without its children's, but with those that its own are computed from."""
    computed = getattr(module, "parametrizations", None)
    return [*module.parameters(recurse=False), *(computed.parameters() if isinstance(computed, nn.Module) else ())]


def _read_directly(module: nn.Module) -> list[nn.Module]:
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__)
    return [module.get_submodule(child) for kind in kinds for child in _WEIGHT_READERS.get(kind, ())]


def finite_weight(layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
    """Return a layer's weight in float64, without gradients.

    Raises:
        ValueError: If it holds values that are not finite.
    """
    weight = layer.weight.detach().double()
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(f"the weight of {layer} holds values that are not finite")
    return weight


def filled(
    layer: LayerT, dense: nn.Linear | nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> LayerT:
    """Give a layer that was built on the meta device its weights, and return it.

    Building it there draws no random number and takes no memory.

    Args:
        layer: Gets new parameters, and is returned.
        dense: The layer that it stands for: gives the dtype, and says which parameters are trained.
        weight: The weight, of the layer's shape and on the device where it shall lie.
        bias: The bias, of the layer's shape; None leaves the layer's own.
    """
    # Cloned: where a size is 1, `contiguous` keeps strides as they are, and torch chooses another kernel by them.
    settled = weight.to(dense.weight.dtype).clone(memory_format=torch.contiguous_format)
    layer.weight = nn.Parameter(settled, dense.weight.requires_grad)
    if bias is not None:
        trained = dense.bias is None or dense.bias.requires_grad
        layer.bias = nn.Parameter(bias.detach().to(dense.weight.dtype, copy=True), trained)
    return layer


def kernel_area(conv: nn.Conv2d) -> int:
    """Return the number of positions of a kernel: height times width."""
    height, width = conv.kernel_size
    return height * width


def check_ungrouped(conv: nn.Conv2d) -> None:
    """Check that a convolution has one group.

    Raises:
        ValueError: If `conv` has more than one group.
    """
    if conv.groups != 1:
        raise ValueError(f"{conv} has {conv.groups} groups; an ordinary convolution, with 1, is needed")
