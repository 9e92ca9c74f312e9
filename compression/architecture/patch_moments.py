"""First and second moments of the patches that a convolution sees: what least squares on its outputs needs.

Example:
    moments = measure_patch_moments(model, ["layer1.0.conv1"], batches)
    fitted = fit_separable(model.layer1[0].conv1, moments=moments["layer1.0.conv1"])
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compression.layers.evaluation_mode import evaluation_mode
from compression.taps import tapped


@dataclass(frozen=True)
class PatchMoments:
    """Moments over all positions of all images, in float64.

    Attributes:
        mean: The mean of a patch x, flattened as the kernel is (channels, height, width): shape (d,).
        second: The mean of x x^T, shape (d, d).
    """

    mean: Tensor
    second: Tensor

    def error_matrix(self, conv: nn.Conv2d) -> Tensor:
        """Return the matrix C (d, d) with which tr(E C E^T) is the output error of a kernel error E (outputs, d).

        That is the mean square of E x, where a bias can't take over the mean; else its variance.
        """
        return self.second if conv.bias is None else self.second - torch.outer(self.mean, self.mean)

    def fitted_bias(self, conv: nn.Conv2d, error: Tensor) -> Tensor | None:
        """Return the best bias beside a kernel that lacks `error`, (outputs, d); None if `conv` has no bias."""
        return None if conv.bias is None else conv.bias.detach().double() + error @ self.mean

    def check(self, conv: nn.Conv2d) -> None:
        """Check that the moments can be those of a convolution's patches.

        Raises:
            ValueError: If its patches are of another size.
        """
        if self.mean.shape != conv.weight[0].flatten().shape:
            raise ValueError(f"moments of patches of {len(self.mean)} values; {conv} sees {conv.weight[0].numel()}")


@torch.no_grad()
def measure_patch_moments(model: nn.Module, names: Iterable[str], batches: Iterable[Tensor]) -> dict[str, PatchMoments]:
    """Measure what ungrouped convolutions of a model see, padding included, in evaluation mode.

    Takes memory for a matrix of (channels x kernel area) squared float64 numbers for each.

    Args:
        model: On the batches' device; its training flags are put back.
        names: Names of Conv2d layers, as in `get_submodule`.
        batches: Inputs of the model.

    Raises:
        ValueError: If a name is no ungrouped Conv2d's, such a layer never ran, or a value is not finite.
    """
    convs = {name: _convolution(model, name) for name in names}
    sums = {name: _Sums.zeros(conv) for name, conv in convs.items()}
    with evaluation_mode(model), tapped(model, convs) as taps:
        for batch in batches:
            model(batch)
            for name, conv in convs.items():
                for run in taps.runs(name):
                    if run.input is not None:
                        sums[name].add(_patches(conv, run.input))
    return {name: total.moments(name) for name, total in sums.items()}


@dataclass
class _Sums:
    count: int
    first: Tensor
    second: Tensor

    @classmethod
    def zeros(cls, conv: nn.Conv2d) -> "_Sums":
        size, device = conv.weight[0].numel(), conv.weight.device
        first = torch.zeros(size, dtype=torch.float64, device=device)
        return cls(0, first, torch.zeros(size, size, dtype=torch.float64, device=device))

    def add(self, patches: Tensor) -> None:
        self.count += len(patches)
        self.first += patches.sum(dim=0)
        self.second.addmm_(patches.T, patches)

    def moments(self, name: str) -> PatchMoments:
        if not self.count:
            raise ValueError(f"layer {name!r} saw no patch: it never ran, or there is no batch")
        if not bool(torch.isfinite(self.second).all()):
            raise ValueError(f"layer {name!r} takes inputs that are not finite")
        return PatchMoments(self.first / self.count, self.second / self.count)


def _convolution(model: nn.Module, name: str) -> nn.Conv2d:
    module = dict(model.named_modules(remove_duplicate=False)).get(name)
    if not isinstance(module, nn.Conv2d) or module.groups != 1:
        raise ValueError(f"layer {name!r} is {module}; the moments of an ungrouped Conv2d can be measured")
    return module


def _patches(conv: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return all patches (positions, channels x height x width), float64, of inputs (N, channels, height, width)."""
    images = inputs if inputs.dim() == 4 else inputs[None]
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = F.pad(images.double(), (left, right, top, bottom), mode=mode)
    height, width = conv.kernel_size
    unfolded = F.unfold(padded, (height, width), dilation=_pair(conv.dilation), stride=_pair(conv.stride))
    return unfolded.transpose(1, 2).flatten(0, 1)


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return sizes[0], sizes[1]
