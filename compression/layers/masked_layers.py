"""Layers that behave as if some of their channels were not there, at their full size.

Example:
    kept = torch.tensor([True, True, False, True])
    norm = MaskedNorm.of(nn.LayerNorm(4), kept, dim=-1)
    LayerMask(kept, torch.ones(5, dtype=torch.bool), dim=-3).attach(nn.Conv2d(4, 5, 1))
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

KEPT, DROPPED = "1", "0"


def to_text(kept: Tensor) -> str:
    """Write flags, bool of shape (channels,), as text: `KEPT` or `DROPPED` for each."""
    return "".join(KEPT if flag else DROPPED for flag in kept.tolist())


def to_flags(kept: str) -> Tensor:
    """Read flags that `to_text` wrote."""
    return torch.tensor([flag == KEPT for flag in kept], dtype=torch.bool)


class MaskedNorm(nn.Module):
    """A LayerNorm or one-group GroupNorm whose statistics leave channels out, which come out as zero.

    What stays is computed as a layer of those channels alone computes it. `of` makes one in place of a norm.

    Args:
        kept: Text of one character for each channel: `KEPT` or `DROPPED`.
        dim: Dimension of the input along which they lie, from the end.
        over_positions: Whether one mean is of all positions too, as a GroupNorm's.
        eps: Added to the variance.
        affine: Whether it has a weight.
        bias: Whether it has a bias.
        device: Device of its parameters.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        kept: str,
        dim: int,
        over_positions: bool = False,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.kept = kept
        self.dim = dim
        self.over_positions = over_positions
        self.eps = eps
        self.affine = affine
        self.register_parameter("weight", nn.Parameter(torch.ones(len(kept), device=device)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(len(kept), device=device)) if bias else None)
        # No buffer: the state of a masked model is that of the model.
        self._index = to_flags(kept).nonzero().flatten()

    @classmethod
    def of(cls, norm: "nn.LayerNorm | nn.GroupNorm | MaskedNorm", kept: Tensor, dim: int) -> Self:
        """Make a masked norm in place of a norm, with that one's very parameters and hooks.

        Args:
            norm: A LayerNorm over one dimension, a GroupNorm, or a masked norm, whose dropped channels stay dropped.
            kept: bool of shape (channels,): those that count.
            dim: Dimension of the input along which channels lie, from the end.
        """
        over_positions = isinstance(norm, nn.GroupNorm)
        if isinstance(norm, MaskedNorm):
            over_positions, kept = norm.over_positions, kept.cpu() & to_flags(norm.kept)
        layer = cls(
            to_text(kept), dim, over_positions, norm.eps, norm.weight is not None, norm.bias is not None, "meta"
        )
        layer.register_parameter("weight", norm.weight)
        layer.register_parameter("bias", norm.bias)
        layer.__dict__ |= {name: value for name, value in vars(norm).items() if "_hooks" in name}
        return layer.train(norm.training)

    @property
    def channels_left(self) -> int:
        """The number of channels that count."""
        return len(self._index)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize the kept channels of inputs of any shape; the others come out as zero."""
        index = self._index.to(inputs.device)
        weight, bias = (None if each is None else each.index_select(0, index) for each in (self.weight, self.bias))
        left = inputs.index_select(self.dim, index)
        if self.over_positions:
            normal = F.group_norm(left, 1, weight, bias, self.eps)
        else:
            normal = F.layer_norm(left.movedim(self.dim, -1), (self.channels_left,), weight, bias, self.eps)
            normal = normal.movedim(-1, self.dim)
        return normal.new_zeros(inputs.shape).index_copy(self.dim, index, normal)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of the layer."""
        return f"{self.channels_left} of {len(self.kept)} channels, dim={self.dim}, eps={self.eps}"


@dataclass(frozen=True, eq=False)
class LayerMask:
    """Hooks that put zero in place of a layer's dropped channels, where they come in and where they go out.

    Gradients of dropped channels are zero as well, even where what follows would give infinite ones.

    Args:
        inputs: bool of shape (channels,): those that may come in.
        outputs: bool of shape (channels,): those that may go out.
        dim: Dimension along which channels lie, from the end.
    """

    inputs: Tensor
    outputs: Tensor
    dim: int

    def attach(self, layer: nn.Module) -> None:
        """Mask a layer from now on."""
        if not self.inputs.all():
            layer.register_forward_pre_hook(self._hide_inputs, with_kwargs=True)
        if not self.outputs.all():
            layer.register_forward_hook(self._hide_outputs)

    @staticmethod
    def of(layer: nn.Module) -> "LayerMask | None":
        """Return all masks that were attached to a layer, as one; None if there are none."""
        hooks = (*layer._forward_pre_hooks.values(), *layer._forward_hooks.values())
        owners = [getattr(hook, "__self__", None) for hook in hooks]
        masks = [owner for owner in owners if isinstance(owner, LayerMask)]
        if not masks:
            return None
        inputs, outputs = (
            torch.stack(flags).all(0) for flags in zip(*((m.inputs, m.outputs) for m in masks), strict=True)
        )
        return LayerMask(inputs, outputs, masks[0].dim)

    def _hide_inputs(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        hide = partial(self._hide, self.inputs)
        return tree_map(hide, args), tree_map(hide, kwargs)

    def _hide_outputs(self, layer: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        return tree_map(partial(self._hide, self.outputs), outputs)

    def _hide(self, kept: Tensor, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.masked_fill(~kept.to(value.device).view(-1, *[1] * (-self.dim - 1)), 0)


def is_masked(layer: nn.Module) -> bool:
    """Tell whether some of a layer's channels are masked."""
    return isinstance(layer, MaskedNorm) or LayerMask.of(layer) is not None
