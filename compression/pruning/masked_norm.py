"""A normalization that leaves masked channels out of its statistics, as one of the cut model does.

Example:
    norm = MaskedNorm.of(nn.LayerNorm(4), torch.tensor([True, True, False, True]), dim=-1)
"""

import torch
from torch import Tensor, nn


class MaskedNorm(nn.Module):
    """A LayerNorm or one-group GroupNorm whose statistics leave channels out, which come out as zero.

    At first all channels count; `of` makes one in place of a norm.

    Args:
        channels: Their number.
        dim: Dimension of the input along which they lie, from the end.
        over_positions: Whether one mean is of all positions too, as a GroupNorm's.
        eps: Added to the variance.
        affine: Whether it has a weight.
        bias: Whether it has a bias.
        device: Of its tensors.
    """

    kept: Tensor

    def __init__(
        self,
        channels: int,
        dim: int,
        over_positions: bool = False,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.dim = dim
        self.over_positions = over_positions
        self.eps = eps
        self.affine = affine
        self.register_parameter("weight", nn.Parameter(torch.ones(channels, device=device)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels, device=device)) if bias else None)
        self.register_buffer("kept", torch.ones(channels, dtype=torch.bool, device=device))

    @classmethod
    def of(cls, norm: nn.LayerNorm | nn.GroupNorm, kept: Tensor, dim: int) -> "MaskedNorm":
        """A layer in place of a norm, with its very parameters.

        Args:
            norm: A LayerNorm over one dimension, or a GroupNorm.
            kept: bool of shape (channels,): those that count.
            dim: Dimension of the input along which channels lie, from the end.
        """
        weight, bias = norm._parameters["weight"], norm._parameters["bias"]
        over_positions = isinstance(norm, nn.GroupNorm)
        layer = cls(len(kept), dim, over_positions, norm.eps, weight is not None, bias is not None, "meta")
        layer.register_parameter("weight", weight)
        layer.register_parameter("bias", bias)
        layer.kept = kept.to(next(norm.parameters(), kept).device)
        return layer.train(norm.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalizes: any shape with the channels in its dimension to the same shape."""
        kept = along(self.kept, inputs, self.dim).to(inputs.dtype)
        dims = list(range(1, inputs.ndim)) if self.over_positions else [self.dim]
        count = kept.expand_as(inputs).sum(dims, keepdim=True)
        mean = (inputs * kept).sum(dims, keepdim=True) / count
        centred = (inputs - mean) * kept
        normal = centred * torch.rsqrt(centred.square().sum(dims, keepdim=True) / count + self.eps)
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        if weight is not None:
            normal = normal * along(weight, inputs, self.dim)
        return normal if bias is None else normal + along(bias, inputs, self.dim)


def along(values: Tensor, inputs: Tensor, dim: int) -> Tensor:
    """One value for each channel, shaped to meet inputs whose channels lie along a dimension counted from the end."""
    return values.view([-1 if place - inputs.ndim == dim else 1 for place in range(inputs.ndim)])
