"""Which layers of a model have weights to quantize.

layers = weight_layers(model, skip=["fc"])      # {"conv1": Conv2d(...), ...}
axis = output_axis(layers["conv1"])             # the dimension of its weight that holds output channels
"""

from collections.abc import Iterable
from typing import Final

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

WEIGHT_LAYERS: Final = (_ConvNd, nn.Linear)
INPUT, OUTPUT = "input_quantizer", "output_quantizer"
"""What a layer calls the children that quantize what it takes and gives."""


def weight_layers(model: nn.Module, skip: Iterable[str] = ()) -> dict[str, nn.Module]:
    """Return the convolutions (transposed ones too) and linear layers by name, each once, in the model's order.

    Args:
        model: Any module.
        skip: Names of layers to leave out.

    Raises:
        ValueError: If a name in `skip` is no such layer.
    """
    layers: dict[str, nn.Module] = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, WEIGHT_LAYERS)
    }
    for name in skip:
        if name not in layers:
            raise ValueError(f"layer {name!r}, to be skipped, is no convolution or linear layer of the model")
        del layers[name]
    return layers


def output_axis(layer: nn.Module) -> int:
    """Return the dimension of a layer's weight that holds output channels: 1 for a transposed convolution, else 0."""
    return 1 if isinstance(layer, _ConvTransposeNd) else 0


def channel_dimension(layer: nn.Module) -> int:
    """Return the dimension of a layer's inputs and outputs that holds channels.

    It is counted from the last dimension, as there may be no batch.
    """
    return -1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else -1


def check_unparametrized(name: str, layer: nn.Module) -> None:
    """Check that a layer's weight is a plain parameter.

    Raises:
        ValueError: If it is parametrized, as it is when quantized before.
    """
    if parametrize.is_parametrized(layer, "weight"):
        kinds = [type(step).__name__ for step in layer.parametrizations["weight"]]  # type: ignore[index]
        raise ValueError(f"layer {name!r}: its weight is already parametrized by {kinds}; bake it first")


def replace_weight(layer: nn.Module, weight: Tensor) -> None:
    """Make a layer's parametrized weight a plain parameter of the given value, trainable if it was."""
    own_parametrized_class(layer)
    trainable = layer.get_parameter("parametrizations.weight.original").requires_grad
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    layer.register_parameter("weight", nn.Parameter(weight, trainable))


def own_parametrized_class(layer: nn.Module) -> None:
    """Give a layer with parametrizations a class that it shares with no copy.

    torch keeps each parametrized tensor as a property of such a class, which `copy.deepcopy` shares: adding or removing
    one on the copy would change the original.
    """
    if parametrize.is_parametrized(layer):
        shared = type(layer)
        members = {name: member for name, member in vars(shared).items() if name not in ("__dict__", "__weakref__")}
        layer.__class__ = type(shared.__name__, shared.__bases__, members)
