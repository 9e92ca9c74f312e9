"""Single weights set to zero: by magnitude, in N:M patterns, along a schedule. Nothing gets smaller by itself."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import ParametrizationList

from compression.layers.names import name_within
from compression.pruning.share import share_of

Masks = Mapping[str, Tensor]
"""For parameters, by name, a bool tensor of their shape: True where the weight stays."""


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of convolutions and linear layers by full name; biases and normalization stay dense.

    One that layers share is given once, by the first's name. `unprunable_weights` names those that are left out.
    """
    return {name: layer.get_parameter("weight").detach() for name, layer in _weighted_layers(model).items()}


def unprunable_weights(model: nn.Module) -> dict[str, str]:
    """Tell, by full name, why other matrices and kernels are not among `prunable_weights`.

    A weight that is computed from others, as by weight normalization, can't be set; other layers' may mean anything.
    """
    prunable = {id(layer.weight) for layer in _weighted_layers(model).values()}
    left = {}
    for name, module in model.named_modules():
        if isinstance(module, _ConvNd | nn.Linear):
            if "weight" not in dict(module.named_parameters(recurse=False)):
                left[name_within(name, "weight")] = "is computed from other tensors"
        elif not isinstance(module, ParametrizationList):
            for key, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1 and id(parameter) not in prunable:
                    left[name_within(name, key)] = (
                        f"belongs to a {type(module).__name__}, no convolution or linear layer"
                    )
    return left


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Drop a share of each tensor's weights, rounded down: those of least magnitude, of equal ones the first.

    Raises:
        ValueError: If the sparsity is not in [0, 1), or a tensor holds NaN.
    """
    return {name: _smallest_dropped({name: weight}, sparsity)[name] for name, weight in weights.items()}


def global_magnitude_masks(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Drop a share of all tensors' weights, rounded down: those of least magnitude, of equal ones the first.

    Raises:
        ValueError: As `magnitude_masks`.
    """
    return _smallest_dropped(weights, sparsity)


def n_m_masks(model: nn.Module, n: int = 2, m: int = 4) -> dict[str, Tensor]:
    """Keep the n weights of largest magnitude of every m that follow one another along a layer's inputs.

    2:4 is the pattern that sparse tensor cores run (Mishra et al., 2021). Of equal magnitudes the first stays. The
    inputs lie in dimension 1 of a weight, in a transposed convolution's in dimension 0; none of the m are in different
    groups. Weights that don't fit get no mask; `n_m_left_dense` names them.

    Args:
        model: The model whose `prunable_weights` are masked; stays as it is.
        n: How many stay of each m, from 1 to m.
        m: Length of the pattern.

    Raises:
        ValueError: If n is not from 1 to m, or a tensor to mask holds NaN; the message names the tensor.
    """
    if not 1 <= n <= m:
        raise ValueError(f"n is {n} and m {m}; n must be from 1 to m")
    masks = {}
    for name, layer in _weighted_layers(model).items():
        if _inputs_of_each(layer) % m == 0:
            weight = layer.get_parameter("weight").detach()
            _check_numbers(name, weight)
            dim = 0 if isinstance(layer, _ConvTransposeNd) else 1
            masks[name] = _largest_of_each(weight.abs().movedim(dim, -1), n, m).movedim(-1, dim)
    return masks


def n_m_left_dense(model: nn.Module, m: int = 4) -> dict[str, str]:
    """Tell, by full name, why `n_m_masks` leaves weights dense: inputs that don't split, or `unprunable_weights`.

    Raises:
        ValueError: If m is less than 1.
    """
    if m < 1:
        raise ValueError(f"m is {m}; at least 1 is possible")
    inputs = {name: _inputs_of_each(layer) for name, layer in _weighted_layers(model).items()}
    unfit = {name: f"has {size} inputs to each output, no multiple of {m}" for name, size in inputs.items() if size % m}
    return unfit | unprunable_weights(model)


def cubic_sparsity(step: int, start: int, end: int, final: float, initial: float = 0.0) -> float:
    """Return the sparsity at a step of gradual pruning: fast at first, slow towards the end (Zhu & Gupta, 2017).

    final + (initial - final) * (1 - (step - start) / (end - start)) ** 3 between start and end; before it
    initial, after it final.

    Raises:
        ValueError: If end is not after start, or a sparsity is not in [0, 1).
    """
    if end <= start:
        raise ValueError(f"end is {end}; it must be after start, {start}")
    for name, value in (("final", final), ("initial", initial)):
        _check_sparsity(name, value)
    left = 1 - min(max((step - start) / (end - start), 0.0), 1.0)
    return final + (initial - final) * left**3


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set masked weights to zero; in training, after every step of the optimizer.

    Args:
        model: Changed in place.
        masks: Masks for any of its parameters.

    Raises:
        ValueError: If a name or shape doesn't fit the model; it is then unchanged.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, kept in masks.items():
        if name not in parameters:
            raise ValueError(f"mask {name!r}: the model has no such parameter")
        if kept.shape != parameters[name].shape or kept.dtype != torch.bool:
            raise ValueError(
                f"mask {name!r}: is {kept.dtype} of shape {tuple(kept.shape)}; "
                f"torch.bool of shape {tuple(parameters[name].shape)} is needed"
            )
    for name, kept in masks.items():
        parameters[name].masked_fill_(~kept.to(parameters[name].device), 0)


def sparsity(tensors: Iterable[Tensor]) -> float:
    """Return the share of entries that are zero, of all tensors together.

    Raises:
        ValueError: If there is no entry.
    """
    pairs = [(tensor.numel(), int((tensor == 0).sum())) for tensor in tensors]
    total = sum(size for size, _ in pairs)
    if total == 0:
        raise ValueError("no entry to count zeros of; at least 1 is needed")
    return sum(zeros for _, zeros in pairs) / total


def _weighted_layers(model: nn.Module) -> dict[str, _ConvNd | nn.Linear]:
    """Return, by full name of each weight that can be masked, the first layer that has it."""
    found, seen = {}, set[int]()
    for name, layer in model.named_modules():
        if isinstance(layer, _ConvNd | nn.Linear) and "weight" in dict(layer.named_parameters(recurse=False)):
            if id(layer.weight) not in seen:
                found[name_within(name, "weight")] = layer
            seen.add(id(layer.weight))
    return found


def _inputs_of_each(layer: _ConvNd | nn.Linear) -> int:
    """Count the inputs that each output is computed from."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels // layer.groups


def _largest_of_each(magnitudes: Tensor, n: int, m: int) -> Tensor:
    """Flag the n largest of every m along the last dimension."""
    blocks = magnitudes.reshape(*magnitudes.shape[:-1], -1, m)
    largest = torch.sort(blocks, dim=-1, descending=True, stable=True).indices[..., :n]
    return torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, largest, value=True).flatten(-2)


def _smallest_dropped(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    _check_sparsity("sparsity", sparsity)
    for name, weight in weights.items():
        _check_numbers(name, weight)
    if not weights:
        return {}
    flat = torch.cat([weight.abs().flatten() for weight in weights.values()])
    kept = torch.ones_like(flat, dtype=torch.bool)
    kept[torch.sort(flat, stable=True).indices[: share_of(len(flat), sparsity)]] = False
    masks, start = {}, 0
    for name, weight in weights.items():
        masks[name] = kept[start : start + weight.numel()].view(weight.shape)
        start += weight.numel()
    return masks


def _check_sparsity(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; from 0 to below 1 is possible")


def _check_numbers(name: str, weight: Tensor) -> None:
    if bool(weight.isnan().any()):
        raise ValueError(f"{name!r} holds NaN; weights must be numbers to be ranked")
