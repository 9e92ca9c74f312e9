"""The layers of a model as JSON, and a base model given the layers of such a table.

    table = describe_layers(pruned)             # [{"name": "conv1", "type": "Conv2d", "in_channels": 3, ...}, ...]
    model = apply_layer_table(copy.deepcopy(base), table)

New layers are on the meta device: they have shapes, no memory.
Only the types in `LAYER_TYPES` are ever built, from the listed arguments, each checked; all other modules are the base
model's. A factorized layer is a Sequential in place of the layer it was. A subclass of LayerNorm, whose code only
the base has, is the base's own, made smaller. A subclass that computes what its listed class does is described as that
class, and is the base's own, with other tensors and sizes.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any, Final, TypeGuard

import torch
from torch import nn
from torch.nn.utils import parametrize

from compression.layers.channel_order import ChannelOrder
from compression.layers.known_layers import computing_type
from compression.layers.masked_layers import DROPPED, KEPT, MaskedNorm
from compression.layers.replacement import Replacement
from compression.packing.container import PackedFileError, checked_rows

_LARGEST_SIZE: Final = 1 << 31


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value < _LARGEST_SIZE


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_SIZE


def is_dim_from_end(value: object) -> TypeGuard[int]:
    """Tell whether a value can be a dimension counted from the last, -1."""
    return type(value) is int and -8 <= value < 0


def is_flags(value: object) -> TypeGuard[str]:
    """Tell whether a value is text that flags channels, at least one of them as kept."""
    return isinstance(value, str) and KEPT in value and set(value) <= {KEPT, DROPPED}


def _is_sizes(value: object) -> bool:
    return _is_size(value) or (isinstance(value, list) and 0 < len(value) <= 8 and all(map(_is_size, value)))


def _is_padding(value: object) -> bool:
    counts = isinstance(value, list) and 0 < len(value) <= 3 and all(map(_is_count, value))
    return _is_count(value) or counts or value in ("same", "valid")


def _is_flag(value: object) -> bool:
    return type(value) is bool


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _is_number_or_none(value: object) -> bool:
    return value is None or _is_number(value)


def _is_index_or_none(value: object) -> bool:
    return value is None or _is_count(value)


def _one_of(*values: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in values


_Checks = Mapping[str, Callable[[object], bool]]

_CONV: Final[_Checks] = {
    "in_channels": _is_size,
    "out_channels": _is_size,
    "kernel_size": _is_sizes,
    "stride": _is_sizes,
    "padding": _is_padding,
    "dilation": _is_sizes,
    "groups": _is_size,
    "bias": _is_flag,
    "padding_mode": _one_of("zeros", "reflect", "replicate", "circular"),
}
_CONV_TRANSPOSE: Final[_Checks] = {**_CONV, "output_padding": _is_padding}
_BATCH_NORM: Final[_Checks] = {
    "num_features": _is_size,
    "eps": _is_number,
    "momentum": _is_number_or_none,
    "affine": _is_flag,
    "track_running_stats": _is_flag,
}

LAYER_TYPES: Final[Mapping[type[nn.Module], _Checks]] = {
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.Conv3d: _CONV,
    nn.ConvTranspose1d: _CONV_TRANSPOSE,
    nn.ConvTranspose2d: _CONV_TRANSPOSE,
    nn.ConvTranspose3d: _CONV_TRANSPOSE,
    nn.Linear: {"in_features": _is_size, "out_features": _is_size, "bias": _is_flag},
    nn.Embedding: {
        "num_embeddings": _is_size,
        "embedding_dim": _is_size,
        "padding_idx": _is_index_or_none,
        "max_norm": _is_number_or_none,
        "norm_type": _is_number,
        "scale_grad_by_freq": _is_flag,
        "sparse": _is_flag,
    },
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.BatchNorm3d: _BATCH_NORM,
    nn.SyncBatchNorm: _BATCH_NORM,
    nn.InstanceNorm1d: _BATCH_NORM,
    nn.InstanceNorm2d: _BATCH_NORM,
    nn.InstanceNorm3d: _BATCH_NORM,
    nn.GroupNorm: {"num_groups": _is_size, "num_channels": _is_size, "eps": _is_number, "affine": _is_flag},
    nn.LayerNorm: {
        "normalized_shape": _is_sizes,
        "eps": _is_number,
        "elementwise_affine": _is_flag,
        "bias": _is_flag,
    },
    nn.PReLU: {"num_parameters": _is_size},
    nn.ReLU: {"inplace": _is_flag},
    nn.ReLU6: {"inplace": _is_flag},
    nn.SiLU: {"inplace": _is_flag},
    nn.Hardswish: {"inplace": _is_flag},
    nn.GELU: {"approximate": _one_of("none", "tanh")},
    nn.Sigmoid: {},
    nn.Tanh: {},
    nn.Identity: {},
    ChannelOrder: {"channels": _is_size},
    MaskedNorm: {
        "kept": is_flags,
        "dim": is_dim_from_end,
        "over_positions": _is_flag,
        "eps": _is_number,
        "affine": _is_flag,
        "bias": _is_flag,
    },
}
_TYPES_BY_NAME: Final = {kind.__name__: kind for kind in LAYER_TYPES}
_NORM_SUBCLASS: Final = "subclass of LayerNorm"
_WITHOUT_DEVICE: Final = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Identity)


class _Missing(nn.Identity):
    """A child that the base model does not have, until its own row of the table builds it.

    Args:
        trained: Tells which parameters are trained in the base's layer that this child replaces a part of.
    """

    def __init__(self, trained: Mapping[str, bool]) -> None:
        super().__init__()
        self.trained = trained


def describe_layers(model: nn.Module) -> list[dict[str, Any]]:
    """Describe all layers of `LAYER_TYPES`, subclasses of LayerNorm and plain Sequentials, parents before children.

    Arguments that are torch's defaults are left out.
    """
    described = ((name, describe_layer(module)) for name, module in model.named_modules())
    return [{"name": name, **layer} for name, layer in described if layer is not None]


def describe_layer(module: nn.Module) -> dict[str, Any] | None:
    """Describe one layer by its type and arguments; None for a type that is not listed."""
    kind = computing_type(parametrize.type_before_parametrizations(module))
    if kind in (nn.Sequential, Replacement):
        return {"type": "Sequential", "children": list(module._modules)}
    if isinstance(module, nn.LayerNorm) and kind is not nn.LayerNorm:
        return {"type": _NORM_SUBCLASS, "normalized_shape": list(module.normalized_shape)}
    if kind not in LAYER_TYPES:
        return None
    arguments = {name: _argument(module, name) for name in LAYER_TYPES[kind]}
    defaults = inspect.signature(kind).parameters
    return {"type": kind.__name__} | {
        name: value for name, value in arguments.items() if value != defaults[name].default or name == "bias"
    }


def described_shapes(model: nn.Module) -> Iterator[tuple[str, str, torch.Size]]:
    """Yield layer, tensor, and the shape that the layer's row stands for, for each tensor of `LAYER_TYPES`.

    Raises:
        PackedFileError: If files can't build such a layer.
    """
    for row in describe_layers(model):
        name, wanted = row["name"], {key: value for key, value in row.items() if key != "name"}
        if wanted["type"] in _TYPES_BY_NAME:
            for key, tensor in _built(name, wanted, nn.Identity()).state_dict().items():
                yield name, key, tensor.shape


def _argument(module: nn.Module, name: str) -> Any:
    value = getattr(module, name)
    if name == "bias":
        return value is not None
    if not isinstance(value, tuple):
        return _plain(value)
    # (3, 3) is what torch makes of 3; a normalized shape counts its dimensions, and stays a list.
    return _plain(value[0]) if len(set(value)) == 1 and name != "normalized_shape" else list(map(_plain, value))


def _plain(value: Any) -> Any:
    """Return a number of another library's type as Python's."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def apply_layer_table(model: nn.Module, table: object) -> nn.Module:
    """Give a model the layers of a table that differ from its own; they are built on the meta device.

    Each has the training flag of the layer that it replaces, and the `requires_grad` of its parameters of the same
    names.

    Args:
        model: The base model, changed in place.
        table: A table as `describe_layers` makes it; anything else is an error.

    Returns:
        The model; another module if it is one layer itself, and differs.

    Raises:
        PackedFileError: If the table is malformed, names a type that is not listed or a layer that the model does not
            have, or arguments that are no layer's.
    """
    owners = _owners(model)
    seen = set[str]()
    for row in checked_rows("layers", table):
        name = row.get("name")
        if not isinstance(name, str) or name in seen:
            raise PackedFileError(f"layer name {str(name)[:80]!r} is no text or there twice")
        seen.add(name)
        present = _module(model, name)
        if present is None:
            raise PackedFileError(f"layer {name!r}: the base model has no such layer")
        wanted = {key: value for key, value in row.items() if key != "name"}
        if describe_layer(present) != wanted:
            if not name and computing_type(type(model)) not in LAYER_TYPES:
                raise PackedFileError("the model as a whole is of another type than the base model")
            if wanted.get("type") == _NORM_SUBCLASS:
                _cut_norm(name, present, wanted)
                continue
            built, kind = _built(name, wanted, present), type(present)
            if kind is not type(built) and computing_type(kind) is type(built):
                _take_over(present, built)
            elif name:
                _replace(owners, present, built)
            else:
                model = built
                owners = _owners(model)
    for name, module in model.named_modules():
        if isinstance(module, _Missing):
            raise PackedFileError(f"layer {name!r}: neither the file nor the base model says what it is")
    return model


def _module(model: nn.Module, name: str) -> nn.Module | None:
    module: nn.Module | None = model
    for part in name.split(".") if name else ():
        module = None if module is None else module._modules.get(part)
    return module


_Owners = dict[nn.Module, list[tuple[nn.Module, str]]]
"""For each module those that have it as a child, with its name there: a layer may be shared."""


def _owners(model: nn.Module) -> _Owners:
    owners: _Owners = {}
    for parent in model.modules():
        _note_children(owners, parent)
    return owners


def _note_children(owners: _Owners, parent: nn.Module) -> None:
    for name, child in parent._modules.items():
        if child is not None:
            owners.setdefault(child, []).append((parent, name))


def _replace(owners: _Owners, old: nn.Module, new: nn.Module) -> None:
    owners[new] = owners[old]
    for parent, name in owners[old]:
        parent._modules[name] = new
    _note_children(owners, new)


def _take_over(layer: nn.Module, built: nn.Module) -> None:
    """Give a layer of a subclass the tensors and sizes of one of the class that it computes as."""
    layer._parameters.update(built._parameters)
    layer._buffers.update(built._buffers)
    module = vars(nn.Module())
    vars(layer).update({name: value for name, value in vars(built).items() if name not in module})


def _cut_norm(name: str, norm: nn.Module, wanted: Mapping[str, Any]) -> None:
    """Make a base's own norm smaller, never larger: a file must not decide how much memory is taken."""
    if not isinstance(norm, nn.LayerNorm) or type(norm) is nn.LayerNorm:
        raise PackedFileError(f"layer {name!r}: the base model has a {type(norm).__name__}, no {_NORM_SUBCLASS}")
    sizes = wanted.get("normalized_shape")
    if (
        set(wanted) != {"type", "normalized_shape"}
        or not (isinstance(sizes, list) and all(map(_is_size, sizes)) and len(sizes) == len(norm.normalized_shape))
        or any(size > largest for size, largest in zip(sizes, norm.normalized_shape, strict=True))
    ):
        raise PackedFileError(
            f"layer {name!r}: the file has {str(wanted)[:160]}; "
            f"as many sizes, none larger, as the base model's {list(norm.normalized_shape)} are needed"
        )
    corner = tuple(map(slice, sizes))
    for key, parameter in list(norm.named_parameters(recurse=False)):
        if parameter.shape == norm.normalized_shape:
            norm.register_parameter(key, nn.Parameter(parameter.detach()[corner].clone(), parameter.requires_grad))
    norm.normalized_shape = tuple(sizes)


def _built(name: str, wanted: Mapping[str, Any], present: nn.Module) -> nn.Module:
    arguments = {key: value for key, value in wanted.items() if key != "type"}
    if wanted.get("type") == "Sequential":
        return _sequential(name, arguments, present)
    kind = _TYPES_BY_NAME.get(str(wanted.get("type")))
    if kind is None:
        raise PackedFileError(f"layer {name!r}: type {str(wanted.get('type'))[:80]!r} is not one that files may build")
    for key, value in arguments.items():
        check = LAYER_TYPES[kind].get(key)
        if check is None or not check(value) or not _has_dimensions(kind, value):
            raise PackedFileError(f"layer {name!r}: {kind.__name__} can't have {str(key)[:80]} = {str(value)[:80]}")
    settled: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()
    }
    try:
        built = kind(**settled) if kind in _WITHOUT_DEVICE else kind(**settled, device="meta")
    except (ValueError, TypeError, RuntimeError, IndexError, AssertionError, OverflowError) as error:
        raise PackedFileError(f"layer {name!r}: no {kind.__name__} can have {settled} ({error})") from error
    for key, trained in _trained(present).items():
        if (parameter := built._parameters.get(key)) is not None:
            parameter.requires_grad_(trained)
    return built.train(present.training)


def _trained(layer: nn.Module) -> Mapping[str, bool]:
    """Tell, by name, which of a layer's own parameters are trained."""
    if isinstance(layer, _Missing):
        return layer.trained
    return {key: parameter.requires_grad for key, parameter in layer.named_parameters(recurse=False)}


def _has_dimensions(kind: type[nn.Module], value: object) -> bool:
    """Tell whether a list has a number for each dimension of a convolution, which torch does not check."""
    dimensions = {"1d": 1, "2d": 2, "3d": 3}.get(kind.__name__[-2:])
    return not isinstance(value, list) or dimensions is None or len(value) == dimensions


def _sequential(name: str, arguments: Mapping[str, Any], present: nn.Module) -> nn.Module:
    children = arguments.get("children")
    if (
        set(arguments) != {"children"}
        or not isinstance(children, list)
        or len(set(map(str, children))) != len(children)
    ):
        raise PackedFileError(f"layer {name!r}: a Sequential has a list of different 'children' and nothing else")
    sequential = nn.Sequential()
    if type(present) in LAYER_TYPES:
        sequential = Replacement()
        sequential.layer_name = name
    for child in children:
        try:
            known = present._modules.get(child)
            sequential.add_module(child, _Missing(_trained(present)) if known is None else known)
        except (KeyError, TypeError) as error:
            raise PackedFileError(f"layer {name!r}: a child can't be called {str(child)[:80]!r} ({error})") from error
    return sequential.train(present.training)
