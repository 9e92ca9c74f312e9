"""Weights shared by k-means: each is a code of 1 to 8 bits into a codebook of centroids.

    quantized = quantize_codebook(conv.weight, bits=4)      # 16 centroids for the whole tensor
    restored = quantized.dequantize()
    model = share_weights(model, bits=4)                    # of every convolution and linear layer; trainable
    model(images).sum().backward()                          # a centroid's gradient is the sum over its weights

Follows Han, Mao and Dally, "Deep Compression" (2016), section 3. In one dimension a cluster is a run of the sorted
values, so dynamic programming finds the optimum; it is exact here for tensors of at most `EXACT_VALUES` distinct
values. Larger ones are first put into that many groups of neighbours; the optimum over groups then starts Lloyd's
algorithm on all values, which only lowers the error.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compression.layers.weights import check_unparametrized, own_parametrized_class, weight_layers
from compression.quantization.affine import finite_float32

EXACT_VALUES: Final = 512
LLOYD_STEPS: Final = 100

Floats = NDArray[np.float64]
Bounds = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CodebookTensor:
    """A tensor as codes into a codebook.

    Attributes:
        codes: uint8, of the tensor's shape, each below the number of centroids.
        centroids: float32, or float64 where training made them so; (at most 2^bits,), at least one.
        bits: 1 to 8.
        dtype: Floating point type that values are restored in.

    Raises:
        ValueError: If these do not fit each other.
    """

    codes: Tensor
    centroids: Tensor
    bits: int
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        floating = self.centroids.dtype in (torch.float32, torch.float64)
        if self.codes.dtype != torch.uint8 or not floating or self.centroids.ndim != 1:
            raise ValueError(
                f"codes are {self.codes.dtype}, centroids {self.centroids.dtype} of {self.centroids.ndim} dimensions; "
                "torch.uint8 and a row of torch.float32 or float64 are needed"
            )
        count = len(self.centroids)
        if not 1 <= count <= 2**self.bits:
            raise ValueError(f"{count} centroids; 1 to {2**self.bits} are possible at {self.bits} bits")
        if self.codes.numel() and int(self.codes.max()) >= count:
            raise ValueError(f"code {int(self.codes.max())} is beyond the {count} centroids")

    def dequantize(self) -> Tensor:
        """Return the tensor of the centroids that the codes name."""
        return self.centroids.to(self.dtype)[self.codes.long()]


def quantize_codebook(tensor: Tensor, bits: int, name: str = "tensor") -> CodebookTensor:
    """Cluster the values of a tensor into at most 2^bits centroids, of least squared error.

    Args:
        tensor: Floating point, of any shape; taken as float32.
        bits: 1 to 8.
        name: What an error calls the tensor.

    Returns:
        Centroids in ascending order, and each value's nearest, on the tensor's device.

    Raises:
        ValueError: If `bits` is out of range, or the tensor is not floating point or not finite.
    """
    _check_bits(bits)
    values = finite_float32(tensor, name).cpu()
    if values.numel() == 0:
        return CodebookTensor(values.to(torch.uint8), torch.zeros(1), bits)
    distinct, inverse, counts = np.unique(values.numpy().ravel(), return_inverse=True, return_counts=True)
    starts = cluster(distinct.astype(np.float64), counts.astype(np.float64), 2**bits)
    centroids = _means(distinct.astype(np.float64), counts.astype(np.float64), starts)
    codes = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(distinct))))[inverse]
    return CodebookTensor(
        torch.from_numpy(codes.astype(np.uint8)).reshape(values.shape).to(tensor.device),
        torch.from_numpy(centroids.astype(np.float32)).to(tensor.device),
        bits,
    )


def cluster(values: Floats, weights: Floats, count: int) -> Bounds:
    """Split ascending values into at most `count` runs of least weighted squared distance to their means.

    Args:
        values: Strictly ascending, at least one.
        weights: How often each occurs.
        count: Runs allowed.

    Returns:
        Index of the first value of each run, ascending from 0.
    """
    # About the mean of all, prefix sums lose fewest digits to cancellation.
    centred = values - np.average(values, weights=weights)
    if len(values) <= count:
        return np.arange(len(values))
    if len(values) <= EXACT_VALUES:
        return _optimal_starts(_Sums.of(centred, weights), count)
    edges = _equal_groups(weights)
    sums = _Sums.of(centred, weights)
    coarse = _optimal_starts(sums.of_groups(edges), count)
    return _lloyd(centred, weights, edges[coarse])


class _Sums:
    """Prefix sums of weights, values and squares; entry i sums what lies before value i."""

    def __init__(self, weight: Floats, first: Floats, second: Floats) -> None:
        self.weight, self.first, self.second = weight, first, second

    @classmethod
    def of(cls, values: Floats, weights: Floats) -> "_Sums":
        return cls(*(np.append(0.0, np.cumsum(weights * values**power)) for power in (0, 1, 2)))

    def of_groups(self, starts: Bounds) -> "_Sums":
        ends = np.append(starts, len(self.weight) - 1)
        return _Sums(self.weight[ends], self.first[ends], self.second[ends])


def _optimal_starts(sums: _Sums, count: int) -> Bounds:
    """Find the optimum over all splits, by dynamic programming (Wang and Song, "Ckmeans.1d.dp", 2011)."""
    size = len(sums.weight) - 1
    weight = sums.weight[None] - sums.weight[:, None]
    first = sums.first[None] - sums.first[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.maximum(sums.second[None] - sums.second[:, None] - first**2 / weight, 0)
    # cost[i, j]: of one run of values i to j - 1; a run has at least one value.
    cost[np.tri(size + 1, dtype=bool)] = np.inf
    least, choices = cost[0], []
    for _ in range(1, min(count, size)):
        total = least[:, None] + cost
        choice = np.argmin(total, axis=0)
        least = np.take_along_axis(total, choice[None], axis=0)[0]
        choices.append(choice)
    starts = [size]
    for choice in reversed(choices):
        starts.append(int(choice[starts[-1]]))
    return np.array([0, *reversed(starts[1:])], dtype=np.int64)


def _equal_groups(weights: Floats) -> Bounds:
    cumulative = np.cumsum(weights)
    quantiles = np.arange(EXACT_VALUES) / EXACT_VALUES * cumulative[-1]
    return np.unique(np.searchsorted(cumulative, quantiles, side="right"))


def _lloyd(values: Floats, weights: Floats, starts: Bounds) -> Bounds:
    for _ in range(LLOYD_STEPS):
        means = _means(values, weights, starts)
        moved = np.unique(np.append(0, np.searchsorted(values, (means[1:] + means[:-1]) / 2)))
        # A value equal to the last midpoint may push the last start past the end.
        moved = moved[moved < len(values)]
        if np.array_equal(moved, starts):
            break
        starts = moved
    return starts


def _means(values: Floats, weights: Floats, starts: Bounds) -> Floats:
    # Run by run: differences of sums over all values would lose small ones beside a huge one.
    means: Floats = np.add.reduceat(weights * values, starts) / np.add.reduceat(weights, starts)
    return means


class CodebookWeight(nn.Module):
    """Parametrization of a weight by its centroids, which are what is trained; the codes stay.

    Args:
        quantized: The weight.
    """

    codes: Tensor

    def __init__(self, quantized: CodebookTensor) -> None:
        super().__init__()
        self.bits = quantized.bits
        self.count = len(quantized.centroids)
        self.register_buffer("codes", quantized.codes)

    def forward(self, centroids: Tensor) -> Tensor:
        """Return the weight, of the codes' shape and the centroids' type."""
        return centroids[self.codes.long()]

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the mean of the weights of each centroid; 0 for one that has none."""
        codes = self.codes.flatten().long()
        total = torch.zeros(self.count, dtype=torch.float64, device=weight.device)
        total = total.index_add(0, codes, weight.detach().flatten().double())
        return (total / torch.bincount(codes, minlength=self.count).clamp(min=1)).to(weight.dtype)

    def quantized(self, centroids: Tensor) -> CodebookTensor:
        """Return the codes and the present centroids."""
        values = centroids.detach()
        stored = values if values.dtype == torch.float64 else values.float()
        return CodebookTensor(self.codes, stored, self.bits, centroids.dtype)


def share_weights(
    model: nn.Module,
    bits: int,
    skip: Iterable[str] = (),
    quantizer: Callable[[Tensor, int, str], CodebookTensor] = quantize_codebook,
) -> nn.Module:
    """Return a copy of a model whose convolutional and linear weights are codebooks.

    Training moves the centroids: the gradient of a centroid is the sum of those of its weights, so that a learning rate
    for weights, which are thousands to a centroid, is far too large for centroids. Layers with one weight have one
    codebook.

    Args:
        model: Stays as it is.
        bits: 1 to 8, for each layer.
        skip: Names of layers to leave as they are.
        quantizer: Makes codes of a weight, bits and its name.

    Raises:
        ValueError: If `bits` is out of range, a name to skip is no such layer, or a weight is not finite, already
            parametrized, or also that of a module which stays as it is.
    """
    shared = copy.deepcopy(model)
    layers = weight_layers(shared, skip)
    tied = dict[nn.Parameter, list[str]]()
    for name, layer in layers.items():
        check_unparametrized(name, layer)
        tied.setdefault(layer.get_parameter("weight"), []).append(name)
    for name, parameter in shared.named_parameters(remove_duplicate=False):
        owner, _, leaf = name.rpartition(".")
        if parameter in tied and (owner not in layers or leaf != "weight"):
            raise ValueError(f"layer {tied[parameter][0]!r}: its weight is {name!r}, too, which stays; skip the layer")
    for weight, names in tied.items():
        attach_codebook([layers[name] for name in names], quantizer(weight, bits, f"{names[0]}.weight"))
    return shared


def attach_codebook(layers: Sequence[nn.Module], quantized: CodebookTensor) -> None:
    """Make the weight of one layer, or of several that share it, a codebook."""
    centroids: nn.Parameter | None = None
    for layer in layers:
        own_parametrized_class(layer)
        # torch gives the very parameter its new shape, which must not happen twice to one that is shared.
        weight = layer.get_parameter("weight")
        layer.register_parameter("weight", nn.Parameter(weight.detach().clone(), weight.requires_grad))
        parametrize.register_parametrization(layer, "weight", CodebookWeight(quantized), unsafe=True)
        if centroids is None:
            centroids = layer.get_parameter("parametrizations.weight.original")
            centroids.data.copy_(quantized.centroids)
        layer.get_submodule("parametrizations.weight").register_parameter("original", centroids)


def _check_bits(bits: int) -> None:
    if type(bits) is not int:
        raise ValueError(f"bits are {bits!r}, of type {type(bits).__name__}; an int is needed")
    if bits not in range(1, 9):
        raise ValueError(f"bits are {bits!r}; 1 to 8 are possible")
