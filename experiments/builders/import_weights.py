"""ImageNet's weights of ResNet18, from a file or from torchvision; layers that a file lacks are left to who uses it."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

from compression.packing.container import PackedFileError, is_packed
from compression.packing.state_file import load_state_dict
from experiments.workbench.context import built, setting
from pytest_claims.keys.file_hash import file_hash
from pytest_claims.training.context import Built, Context


class WeightsError(ValueError):
    """The weights cannot be used; the message names the file and the tensor."""


def build(context: Context) -> Built:
    """Needs the setting `sha256` of the file `context.weights_file`, or `torchvision`, the name of its weights."""
    if "torchvision" in dict(context.recipe.settings):
        source = setting(context, "torchvision", str)
        state = torchvision_weights(source)
    else:
        source = str(context.weights_file)
        state = weights_from_file(context.weights_file, setting(context, "sha256", str))
    check_fits(state, resnet18(), source)
    return built({name: value.contiguous() for name, value in state.items()}, {})


def torchvision_weights(name: str) -> Mapping[str, Tensor]:
    """Downloads (once; torch keeps it) and verifies one of torchvision's published ResNet18 weights."""
    weights = ResNet18_Weights[name]
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise WeightsError(
            f"torchvision's ResNet18 weights {name} cannot be downloaded or read ({type(error).__name__}: {error}); "
            "give a safetensors file with --pretrained-weights"
        ) from error
    return state


def weights_from_file(path: Path | None, expected_hash: str) -> Mapping[str, Tensor]:
    """Reads a safetensors file whose hash must be the one in the recipe."""
    if path is None:
        raise WeightsError("the recipe needs a file of weights; give it with --pretrained-weights")
    if (found := file_hash(path)) != expected_hash:
        raise WeightsError(f"{path}: its SHA-256 is {found[:12]}..., the recipe's is {expected_hash[:12]}...")
    try:
        return load_state_dict(path) if is_packed(path) else load_file(path)
    except (SafetensorError, PackedFileError) as error:
        raise WeightsError(f"{path}: no readable safetensors file ({error})") from error


def check_fits(state: Mapping[str, Tensor], model: nn.Module, source: str) -> None:
    """Raises WeightsError, naming the source, unless every tensor is one of the model's, of the same shape."""
    own = model.state_dict()
    if not state:
        raise WeightsError(f"{source}: holds no tensors, must hold some of ResNet18's")
    for name, value in state.items():
        if name not in own:
            raise WeightsError(f"{source}: tensor {name!r} is none of ResNet18's")
        if own[name].shape != value.shape:
            shapes = f"{list(value.shape)}, ResNet18's has {list(own[name].shape)}"
            raise WeightsError(f"{source}: tensor {name!r} has shape {shapes}")
