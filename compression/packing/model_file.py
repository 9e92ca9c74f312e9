"""A compressed model in one file: its layers, its codes, and nothing that could run.

    model = torchvision.models.resnet18()
    small = quantize_weights(factorize_to_budget(model, 4_000_000), AffineSpec(bits=4))
    save_model(small, "small.safetensors")
    same = load_model("small.safetensors", base=torchvision.models.resnet18())
    load_state_dict("small.safetensors")        # or only its weights, as float tensors

The base gives the model's code: how its layers are wired. The file gives sizes, types and weights of layers that were
pruned, factorized or rewritten, the quantizers of weights and activations, and which inputs are masked, so that the
loaded model can be trained on and saved again, to the same bytes. Tensors that a module of the base holds itself (a
ConvNeXt block's scale) may be smaller in the file, in any dimension, as pruning makes them; never larger. Training goes
on from the quantized weights: the float ones behind them are not kept.
"""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compression.layers.channel_order import ChannelOrder
from compression.layers.known_layers import averages_channels, channel_counts, is_known
from compression.layers.masked_layers import LayerMask, is_masked, to_flags, to_text
from compression.layers.weights import INPUT, OUTPUT, weight_layers
from compression.packing.container import PackedFileError, checked_rows, read, write
from compression.packing.layer_table import (
    LAYER_TYPES,
    apply_layer_table,
    describe_layers,
    described_shapes,
    is_dim_from_end,
    is_flags,
)
from compression.packing.state_file import STATE_KEYS, VERSION, check_version
from compression.packing.tensors import DEFAULT_LIMIT, Packable, decode_tensors, encode_tensors, restore
from compression.quantization.activations import attach_activation_quantizer
from compression.quantization.affine import AffineTensor, Grid, encode
from compression.quantization.codebook import CodebookTensor, CodebookWeight, attach_codebook
from compression.quantization.fake import FakeQuantize, FakeQuantizedWeight, attach_grid, freeze
from compression.quantization.state_dict import QuantizedTensor

_PARAMETRIZATIONS = ".parametrizations."
_EXTRA_STATE = "_extra_state"


def save_model(model: nn.Module, path: str | os.PathLike[str], entropy_coded: bool = True) -> int:
    """Write a model to one file, which appears complete or not at all; the same model gives the same bytes.

    Args:
        model: Of any layers; those of `layer_table.LAYER_TYPES` may differ from the base model's that is given on
            loading, and tensors of other modules may be smaller. Grids that follow their weights are frozen as they
            are now.
        path: File to write or replace.
        entropy_coded: Whether codes are entropy-coded where that is smaller.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: If something in the model's state is no tensor, a weight has a parametrization of another kind or is
            of a type too coarse for its grid, layers that share a parameter hold it in different ways, such as one of
            them in codes, or a layer's tensors are not of the sizes that the layer states, so that it could not be
            loaded.
        OSError: If the file can't be written.
    """
    frozen = freeze(model)
    tensors = model_tensors(frozen)
    _check_ties(frozen, tensors)
    _check_described(frozen, tensors)
    entries, stored = encode_tensors(tensors, entropy_coded)
    header = {
        "version": VERSION,
        "tensors": entries,
        "layers": describe_layers(frozen),
        "activations": _describe_activations(frozen),
    }
    if masks := _describe_masks(frozen):
        header["masks"] = masks
    return write(Path(path), header, stored)


def load_model(path: str | os.PathLike[str], base: nn.Module, limit: int = DEFAULT_LIMIT) -> nn.Module:
    """Read a model from a packed file.

    A file of `save_model` gives the compressed model; one that holds a state dict alone gives the base model with its
    numbers as weights.

    Args:
        path: The file.
        base: The uncompressed model, with any weights; stays as it is.
        limit: Most bytes that the tensors may take as float32.

    Returns:
        The model, ready to run or to be trained on, with the base's device, memory format, training flags, ties between
        parameters, and its layers' `requires_grad`.

    Raises:
        PackedFileError: If the file is damaged, foreign, inconsistent in itself, too large, or does not fit the base.
        OSError: If there is no such file, or it can't be read.
    """
    try:
        header, stored = read(Path(path))
        check_version(header.get("version"))
        tensors = decode_tensors(header.get("tensors"), stored, limit)
        model = copy.deepcopy(base)
        if header.keys() == STATE_KEYS:
            tensors = {name: restore(packed) for name, packed in tensors.items()}
        else:
            model = apply_layer_table(model, header.get("layers"))
            _apply_activations(model, header.get("activations"))
        _fill(model, tensors, _device(base), _tied(base))
        _keep_memory_format(model, base)
        _check_same(model, tensors)
        _check_orders(model)
        _apply_masks(model, header.get("masks", []))
    except PackedFileError as error:
        raise PackedFileError(f"{os.fspath(path)}: {error}") from error
    return model


def model_tensors(model: nn.Module) -> dict[str, Packable]:
    """Return the state of a model by name, quantized weights as their codes.

    Raises:
        ValueError: If something in it is no tensor, or a weight has a parametrization of another kind or is of a type
            too coarse for its grid.
    """
    tensors: dict[str, Packable] = {}
    for key, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor) or key.rpartition(".")[2] == _EXTRA_STATE:
            kind = type(tensor).__name__ if not isinstance(tensor, Tensor) else "module's own kind of state"
            raise ValueError(f"{key!r} of the model's state is a {kind}; only parameters and buffers can be stored")
        owner, inside, rest = f".{key}".rpartition(_PARAMETRIZATIONS)
        if not inside:
            tensors[key] = tensor
        elif not rest.startswith("weight."):
            raise ValueError(f"layer {owner[1:]!r}: its {rest.split('.')[0]} is parametrized; only a weight may be")
        else:
            # Comes once for the float weight, or centroids, and once for each buffer of the quantizer.
            name = owner.removeprefix(".")
            tensors[_stored_name(key)] = _quantized_weight(name, model.get_submodule(name))
    # A state dict's order tells in which order quantizers were attached, which a loaded model need not share.
    return dict(sorted(tensors.items()))


def _stored_name(key: str) -> str:
    """Return what the file calls an entry of a state dict: a quantizer's parts are one weight."""
    owner, inside, _ = f".{key}".rpartition(_PARAMETRIZATIONS)
    return f"{owner}.weight".removeprefix(".") if inside else key


def _check_ties(model: nn.Module, tensors: Mapping[str, Packable]) -> None:
    """Check that layers which share a parameter store the same, since they will share it in the loaded model."""
    for first, *others in (map(_stored_name, keys) for keys in _tied(model)):
        for name in others:
            if not _same(tensors[first], tensors[name]):
                raise ValueError(
                    f"{first!r} and {name!r} are one parameter, but not quantized alike; "
                    "skip both, or untie them before"
                )


def _check_described(model: nn.Module, tensors: Mapping[str, Packable]) -> None:
    for layer, key, stated in described_shapes(model):
        packed = tensors.get(f"{layer}.{key}".removeprefix("."))
        if packed is not None and _shape(packed) != stated:
            raise ValueError(
                f"layer {layer!r}: its {key} has shape {tuple(_shape(packed))}, and by the layer's sizes "
                f"{tuple(stated)}; it could not be loaded"
            )


def _shape(packed: Packable) -> torch.Size:
    return packed.shape if isinstance(packed, Tensor) else restore(packed).shape


def _quantized_weight(name: str, layer: nn.Module) -> Packable:
    steps = list(layer.get_submodule("parametrizations.weight").children())
    if len(steps) == 1 and isinstance(steps[0], FakeQuantizedWeight | CodebookWeight):
        packed = steps[0].quantized(layer.get_parameter("parametrizations.weight.original"))
        if isinstance(packed, AffineTensor) and not torch.equal(_encoded_again(packed), packed.codes):
            raise ValueError(
                f"layer {name!r}: {packed.dtype} is too coarse for its grid; cast it before it is quantized"
            )
        return packed
    kinds = [type(step).__name__ for step in steps]
    raise ValueError(f"layer {name!r}: its weight is parametrized by {kinds}; only one quantizer can be stored")


def _encoded_again(packed: AffineTensor) -> Tensor:
    """Return the codes of the values that a file gives back, which a short floating point type rounds once more."""
    short = packed.dtype in (torch.float16, torch.bfloat16)
    return encode(packed.dequantize(), packed.grid).codes if short else packed.codes


def _describe_activations(model: nn.Module) -> list[dict[str, Any]]:
    return [
        {"layer": name, "role": role, "bits": quantizer.bits, "symmetric": quantizer.symmetric}
        for name, layer in model.named_modules()
        for role in (INPUT, OUTPUT)
        if isinstance(quantizer := layer._modules.get(role), FakeQuantize)
    ]


def _apply_activations(model: nn.Module, rows: object) -> None:
    modules = dict(model.named_modules())
    for row in checked_rows("activations", rows):
        layer, role, bits, symmetric = (row.get(key) for key in ("layer", "role", "bits", "symmetric"))
        known = isinstance(layer, str) and layer in modules and role in (INPUT, OUTPUT)
        if not known or type(bits) is not int or type(symmetric) is not bool or role in modules[str(layer)]._modules:
            raise PackedFileError(f"activation quantizer {str(row)[:160]} fits no layer of the model")
        try:
            grid = Grid(torch.ones(1), torch.zeros(1, dtype=torch.int32), bits, symmetric, None)
        except ValueError as error:
            raise PackedFileError(f"activation quantizer of layer {layer!r}: {error}") from error
        attach_activation_quantizer(modules[str(layer)], str(role), FakeQuantize(grid))


def _describe_masks(model: nn.Module) -> list[dict[str, Any]]:
    masks = {name: LayerMask.of(layer) for name, layer in model.named_modules()}
    return [
        {"layer": name, "inputs": to_text(mask.inputs), "outputs": to_text(mask.outputs), "dim": mask.dim}
        for name, mask in masks.items()
        if mask is not None
    ]


def _apply_masks(model: nn.Module, rows: object) -> None:
    modules = dict(model.named_modules())
    for row in checked_rows("masks", rows):
        name, inputs, outputs, dim = (row.get(key) for key in ("layer", "inputs", "outputs", "dim"))
        layer = modules.get(name) if isinstance(name, str) else None
        if layer is None or not is_known(layer) or averages_channels(layer) or is_masked(layer):
            raise PackedFileError(f"mask {str(row)[:160]} fits no layer of the model")
        if not (is_flags(inputs) and is_flags(outputs) and is_dim_from_end(dim)):
            raise PackedFileError(f"mask of layer {name!r}: {str(row)[:160]} has no flags of channels, or no dimension")
        counts = channel_counts(layer)
        if counts is not None and counts != (len(inputs), len(outputs)):
            raise PackedFileError(
                f"mask of layer {name!r}: {len(inputs)} channels in and {len(outputs)} out; the layer has {counts}"
            )
        LayerMask(to_flags(inputs), to_flags(outputs), dim).attach(layer)


def _device(base: nn.Module) -> torch.device:
    return next((tensor.device for tensor in base.state_dict().values() if not tensor.is_meta), torch.device("cpu"))


def _tied(model: nn.Module) -> list[list[str]]:
    """Return the names of each parameter that has several."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return [each for each in names.values() if len(each) > 1]


def _fill(
    model: nn.Module, tensors: Mapping[str, Packable], device: torch.device, tied: Iterable[Iterable[str]]
) -> None:
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise PackedFileError("the base model has parametrized layers; plain ones are needed")
    state = model.state_dict()
    _check_fit(model, state, tensors)
    for name, buffer in model.named_buffers():
        if buffer.is_meta and name not in state:
            raise PackedFileError(f"buffer {name!r}: no file holds it, so that the base model must, not on 'meta'")
    for module in model.modules():
        if any(tensor.is_meta for tensor in (*module.parameters(False), *module.buffers(False))):
            module.to_empty(device=device, recurse=False)
    for name, packed in tensors.items():
        _set(model, name, restore(packed).to(device))
    for names in tied:
        _tie(model, [name for name in names if name in tensors])
    _check_activations(model)
    codebooks = dict[nn.Parameter, tuple[CodebookTensor, list[nn.Module]]]()
    for name, packed in tensors.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        if isinstance(packed, AffineTensor):
            attach_grid(layer, packed.grid)
        elif isinstance(packed, CodebookTensor):
            codebooks.setdefault(layer.get_parameter("weight"), (packed, []))[1].append(layer)
    for codebook, layers in codebooks.values():
        attach_codebook(layers, codebook)
    model.to(device)


def _tie(model: nn.Module, names: Sequence[str]) -> None:
    """Make one parameter of those that the base model ties, whose layers may have been built anew."""
    for name in names[1:]:
        owner, _, leaf = name.rpartition(".")
        first, other = model.get_parameter(names[0]), model.get_parameter(name)
        if not _equal(first, other):
            raise PackedFileError(f"tensor {name!r}: the base model ties it to {names[0]!r}, which differs in the file")
        model.get_submodule(owner).register_parameter(leaf, first)


def _check_activations(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, FakeQuantize):
            scale, zero_point = module.scale, module.zero_point
            if not bool((torch.isfinite(scale) & (scale > 0)).all()):
                raise PackedFileError(f"activation quantizer {name!r}: its scale is not above zero and finite")
            if not bool(((zero_point >= module.grid.lowest) & (zero_point <= module.grid.highest)).all()):
                raise PackedFileError(f"activation quantizer {name!r}: its zero point is none of its codes")


def _keep_memory_format(model: nn.Module, base: nn.Module) -> None:
    """Lay convolutions out channels last, if the base model's are."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for ndim, memory_format in formats.items():
        there = [weight for weight in base.parameters() if weight.ndim == ndim and not weight.is_contiguous()]
        if any(weight.is_contiguous(memory_format=memory_format) for weight in there):
            for weight in (each for each in model.parameters() if each.ndim == ndim):
                weight.data = weight.data.contiguous(memory_format=memory_format)


def _check_fit(model: nn.Module, state: Mapping[str, Tensor], tensors: Mapping[str, Packable]) -> None:
    layers = weight_layers(model)
    if state.keys() != tensors.keys():
        missing, unknown = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
        raise PackedFileError(f"does not fit the base model: tensors {missing[:5]} are missing, {unknown[:5]} unknown")
    for name, packed in tensors.items():
        if isinstance(packed, QuantizedTensor):
            raise PackedFileError(f"tensor {name!r}: codes between a minimum and a maximum are no model's weights")
        shape, needed = _shape(packed), state[name].shape
        may_be_smaller = not _states_its_sizes(model.get_submodule(name.rpartition(".")[0]))
        if shape != needed and not (may_be_smaller and _is_within(shape, needed)):
            raise PackedFileError(
                f"tensor {name!r} has shape {tuple(shape)}; the base model with the file's layers needs "
                f"{tuple(needed)}{' or smaller' if may_be_smaller else ''}"
            )
        if not isinstance(packed, Tensor) and name.rpartition(".")[2] != "weight":
            raise PackedFileError(f"tensor {name!r} is quantized; only a layer's weight may be")
        if not isinstance(packed, Tensor) and name.rpartition(".")[0] not in layers:
            raise PackedFileError(f"tensor {name!r} is quantized; only a convolution's or linear layer's weight may be")


def _states_its_sizes(module: nn.Module) -> bool:
    """Tell whether a module has attributes that say how large its tensors are, as torch's have."""
    return isinstance(module, tuple(LAYER_TYPES)) or type(module).__module__.startswith("torch.nn.")


def _is_within(shape: torch.Size, largest: torch.Size) -> bool:
    return len(shape) == len(largest) and all(0 < size <= most for size, most in zip(shape, largest, strict=True))


def _set(model: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    present: Tensor = getattr(module, leaf)
    if present.is_floating_point() != value.is_floating_point():
        raise PackedFileError(f"tensor {name!r} is {value.dtype}; the model has {present.dtype} there")
    present.data = value


def _check_same(model: nn.Module, tensors: Mapping[str, Packable]) -> None:
    """Check that the model now holds what the file does, which it can't if the base ties what the file does not."""
    for name, held in model_tensors(model).items():
        if not _same(held, tensors[name]):
            raise PackedFileError(f"tensor {name!r}: the base model ties it to another one, which differs in the file")


def _check_orders(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, ChannelOrder) and not module.is_permutation():
            raise PackedFileError(f"layer {name!r}: its order must have each of {module.channels} channels once")


def _same(one: Packable, other: Packable) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _equal(one, other)
    if isinstance(one, AffineTensor) and isinstance(other, AffineTensor):
        grids = (one.grid, other.grid)
        return (
            one.dtype == other.dtype
            and _equal(one.codes, other.codes)
            and _equal(*(grid.scale for grid in grids))
            and (_equal(*(grid.zero_point for grid in grids)))
        )
    if isinstance(one, CodebookTensor) and isinstance(other, CodebookTensor):
        equal = _equal(one.codes, other.codes) and _equal(one.centroids, other.centroids)
        return equal and one.dtype == other.dtype
    return False


def _equal(one: Tensor, other: Tensor) -> bool:
    one, other = one.detach().cpu().contiguous(), other.detach().cpu().contiguous()
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
