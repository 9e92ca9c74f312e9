"""Linear and convolutional layers as products of smaller ones, by singular value decomposition."""

import bisect
import math
from collections import Counter
from collections.abc import Collection
from fractions import Fraction
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from compression.architecture import convolution_like, replace_layers
from compression.cost import parameter_count

Factorizable = nn.Linear | nn.Conv2d
LayerT = TypeVar("LayerT", nn.Linear, nn.Conv2d)


def factorize_linear(linear: nn.Linear, rank: int) -> nn.Sequential:
    """The best approximation of a linear layer by two thinner ones (Eckart and Young, 1936).

    Args:
        linear: Maps I features to O; stays as it is.
        rank: Features in between, from 1 to min(O, I).

    Returns:
        Linear(I, rank) without bias, then Linear(rank, O) with the bias if `linear` has one.

    Raises:
        ValueError: If the rank is out of its bounds, or a weight is not finite.
    """
    _check_ranks(linear, (rank,), full_ranks(linear))
    first, second = _split(_wide_weight(linear), rank)
    inner = _linear(linear, first)
    outer = _linear(linear, second, linear.bias)
    return _sequential(linear, inner, outer)


def factorize_pointwise(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """The best approximation of a 1x1 convolution by two thinner ones, as `factorize_linear`.

    Args:
        conv: 1x1 and ungrouped, maps I channels to O; stays as it is.
        rank: Channels in between, from 1 to min(O, I).

    Returns:
        A 1x1 convolution without bias, with the stride and padding of `conv`, then one with its bias.

    Raises:
        ValueError: If `conv` is grouped or not 1x1, the rank is out of its bounds, or a weight is not
            finite.
    """
    if conv.kernel_size != (1, 1):
        raise ValueError(f"{conv} has a kernel of {conv.kernel_size}; (1, 1) is needed")
    _check_ranks(conv, (rank,), full_ranks(conv))
    first, second = _split(_wide_weight(conv).flatten(1), rank)
    inner = _spatial(conv, first[:, :, None, None])
    outer = _pointwise(conv, second, conv.bias)
    return _sequential(conv, inner, outer)


def factorize_conv2d(conv: nn.Conv2d, ranks: tuple[int, int], iterations: int = 0) -> nn.Sequential:
    """A Tucker-2 approximation of a convolution (Kim et al., 2016).

    Both bases are the leading left singular vectors of the kernel's unfoldings (truncated HOSVD); each
    further iteration improves one given the other (HOOI), and never enlarges the error.

    Args:
        conv: Ungrouped, maps I channels to O by a k x k kernel; stays as it is.
        ranks: (r_out, r_in), each from 1; at most min(O, I k^2) and min(I, O k^2).
        iterations: HOOI sweeps, from 0.

    Returns:
        A 1x1 convolution from I to r_in; a k x k core from r_in to r_out with the stride, padding and
        dilation of `conv`; a 1x1 from r_out to O with its bias. The first two have none.

    Raises:
        ValueError: If `conv` is grouped, a rank is out of its bounds, or a weight is not finite.
    """
    _check_ungrouped(conv)
    _check_ranks(conv, ranks, _tucker_ranks(conv))
    kernel = _wide_weight(conv)
    rank_out, rank_in = ranks
    basis_out = _leading_vectors(kernel.flatten(1), rank_out)
    basis_in = _leading_vectors(kernel.transpose(0, 1).flatten(1), rank_in)
    for _ in range(iterations):
        basis_out = _leading_vectors(_project(kernel, 1, basis_in).flatten(1), rank_out)
        basis_in = _leading_vectors(_project(kernel, 0, basis_out).transpose(0, 1).flatten(1), rank_in)
    core = _project(_project(kernel, 0, basis_out), 1, basis_in)
    return _sequential(
        conv,
        _pointwise(conv, basis_in.T),
        _spatial(conv, core),
        _pointwise(conv, basis_out, conv.bias),
    )


def low_rank_parameters(layer: Factorizable, *ranks: int) -> int:
    """Parameters that a layer would have once factorized.

    Args:
        layer: Linear or ungrouped Conv2d.
        ranks: As `full_ranks` gives: one for a Linear or 1x1 Conv2d, else r_out and r_in.

    Raises:
        ValueError: If there are too few or many ranks, or one is out of its bounds.
    """
    _check_ranks(layer, ranks, full_ranks(layer))
    outputs, inputs = layer.weight.shape[:2]
    bias = 0 if layer.bias is None else outputs
    if len(ranks) == 1:
        return ranks[0] * (inputs + outputs) + bias
    rank_out, rank_in = ranks
    return inputs * rank_in + rank_in * rank_out * layer.weight[0, 0].numel() + rank_out * outputs + bias


def full_ranks(layer: Factorizable) -> tuple[int, ...]:
    """The ranks at which a factorized layer equals the dense one.

    Returns:
        (rank,) for a Linear or 1x1 Conv2d, (r_out, r_in) for other convolutions.

    Raises:
        ValueError: If the layer is a grouped convolution.
    """
    if isinstance(layer, nn.Conv2d):
        _check_ungrouped(layer)
        if layer.kernel_size != (1, 1):
            return _tucker_ranks(layer)
    outputs, inputs = layer.weight.shape[:2]
    return (min(outputs, inputs),)


def factorize_to_budget(model: nn.Module, parameter_budget: int, *, skip: Collection[str] = ()) -> nn.Module:
    """A copy of the model, its layers factorized at one share of their full ranks.

    The share is the largest whose parameter count is not above the budget. A layer gets the ranks
    max(1, floor(share * full)), and stays dense where that would not make it smaller. They depend on the
    shapes alone: another model of the same architecture gets the same form, to load these weights into.

    Args:
        model: Its Linear and ungrouped Conv2d layers are factorized; stays as it is.
        parameter_budget: Parameters of the whole model.
        skip: Names, as in `get_submodule`, of layers to leave dense, or of modules that hold such.

    Raises:
        ValueError: If `skip` names no module, or even rank 1 everywhere is above the budget; the message
            then gives the smallest count.
    """
    layers = _factorizable_layers(model, skip)
    dense = parameter_count(model)

    def count(share: Fraction) -> int:
        return dense - sum(_saving(layer, _ranks_at(layer, share)) for layer in layers.values())

    shares = _distinct_shares(layers.values())
    fitting = bisect.bisect_right(shares, parameter_budget, key=count)
    if not fitting:
        raise ValueError(f"budget of {parameter_budget} parameters is below {count(shares[0])}, the smallest")
    share = shares[fitting - 1]

    def rewrite(name: str, module: nn.Module) -> nn.Module | None:
        layer = layers.get(name)
        if layer is None or not _saving(layer, _ranks_at(layer, share)):
            return None
        return _factorized(name, layer, _ranks_at(layer, share))

    return replace_layers(model, rewrite)


def _factorizable_layers(model: nn.Module, skip: Collection[str]) -> dict[str, Factorizable]:
    named = dict(model.named_modules())
    for name in skip:
        if name not in named:
            raise ValueError(f"skip names {name!r}, which the model doesn't hold")
    owners = Counter(parameter for module in named.values() for parameter in module.parameters(recurse=False))
    layers: dict[str, Factorizable] = {}
    for name, module in named.items():
        skipped = any(name == other or name.startswith(f"{other}.") for other in skip)
        if _is_factorizable(module) and not skipped and owners[module.weight] == 1:
            layers[name] = module
    return layers


def _is_factorizable(module: nn.Module) -> TypeGuard[Factorizable]:
    # Exact types: a module may use the weight of a subclass directly, as MultiheadAttention does.
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)


def _distinct_shares(layers: Collection[Factorizable]) -> list[Fraction]:
    fulls = {full for layer in layers for full in full_ranks(layer)} or {1}
    return sorted({Fraction(rank, full) for full in fulls for rank in range(1, full + 1)})


def _ranks_at(layer: Factorizable, share: Fraction) -> tuple[int, ...]:
    return tuple(max(1, math.floor(share * full)) for full in full_ranks(layer))


def _saving(layer: Factorizable, ranks: tuple[int, ...]) -> int:
    return max(0, parameter_count(layer) - low_rank_parameters(layer, *ranks))


def _factorized(name: str, layer: Factorizable, ranks: tuple[int, ...]) -> nn.Sequential:
    try:
        if isinstance(layer, nn.Linear):
            return factorize_linear(layer, ranks[0])
        if layer.kernel_size == (1, 1):
            return factorize_pointwise(layer, ranks[0])
        return factorize_conv2d(layer, (ranks[0], ranks[1]))
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from error


def _split(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    # Each factor takes the root, so that both have one scale and train at one learning rate.
    roots = values[:rank].sqrt()
    return roots[:, None] * right[:rank], left[:, :rank] * roots


def _leading_vectors(unfolding: Tensor, count: int) -> Tensor:
    # The triangular factor has the same left singular vectors, and is small where the unfolding is wide.
    triangle = torch.linalg.qr(unfolding.T, mode="r").R
    vectors: Tensor = torch.linalg.svd(triangle.T, full_matrices=False).U
    return vectors[:, :count]


def _project(kernel: Tensor, dim: int, basis: Tensor) -> Tensor:
    projected: Tensor = torch.tensordot(kernel, basis, dims=([dim], [0]))
    return projected.movedim(-1, dim)


def _wide_weight(layer: Factorizable) -> Tensor:
    weight = layer.weight.detach().double()
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(f"the weight of {layer} holds values that are not finite")
    return weight


def _linear(dense: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return _filled(linear, dense, weight, bias)


def _spatial(dense: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    conv = convolution_like(dense, weight.shape[1], weight.shape[0], bias=False, device="meta")
    return _filled(conv, dense, weight, None)


def _pointwise(dense: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None, device="meta")
    return _filled(conv, dense, weight[:, :, None, None], bias)


def _filled(layer: LayerT, dense: Factorizable, weight: Tensor, bias: Tensor | None) -> LayerT:
    # Built on the meta device and filled here, so that no random number is drawn for weights set at once.
    layer.weight = nn.Parameter(weight.to(dense.weight.dtype).contiguous(), dense.weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def _sequential(dense: Factorizable, *layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers).train(dense.training)


def _tucker_ranks(conv: nn.Conv2d) -> tuple[int, int]:
    area = conv.weight[0, 0].numel()
    return (
        min(conv.out_channels, conv.in_channels * area),
        min(conv.in_channels, conv.out_channels * area),
    )


def _check_ranks(layer: Factorizable, ranks: tuple[int, ...], bounds: tuple[int, ...]) -> None:
    names = ("rank",) if len(bounds) == 1 else ("r_out", "r_in")
    if len(ranks) != len(bounds):
        raise ValueError(f"{layer} takes {' and '.join(names)}; got ranks {ranks}")
    for name, rank, bound in zip(names, ranks, bounds, strict=True):
        if not 1 <= rank <= bound:
            raise ValueError(f"{name} is {rank}; from 1 to {bound} is possible for {layer}")


def _check_ungrouped(conv: nn.Conv2d) -> None:
    if conv.groups != 1:
        raise ValueError(f"{conv} has {conv.groups} groups; only an ungrouped one can be factorized")
