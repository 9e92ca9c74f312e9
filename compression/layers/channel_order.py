"""Channels in another order, as a layer.

    shuffled = ChannelOrder.of(torch.tensor([2, 0, 1]))(images)     # its channel 0 is channel 2 of the images

Group convolutions are fitted between two of them.
"""

import torch
from torch import Tensor, nn


class ChannelOrder(nn.Module):
    """Channel j of the output is channel `order[j]` of the input; at first each stays where it is.

    Args:
        channels: Their number.
        device: Of the order.
    """

    order: Tensor

    def __init__(self, channels: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(channels, device=device))

    @classmethod
    def of(cls, order: Tensor) -> "ChannelOrder":
        """A layer with an order, int64 of shape (channels,)."""
        layer = cls(len(order), order.device)
        layer.order.copy_(order)
        return layer

    @property
    def channels(self) -> int:
        """Their number."""
        return len(self.order)

    def is_permutation(self) -> bool:
        """Whether each channel comes once, which an order that was read from a file need not have."""
        return torch.equal(self.order.sort().values, torch.arange(self.channels, device=self.order.device))

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, channels, height, width), or a single image, to the same shape."""
        return images.index_select(-3, self.order)

    def extra_repr(self) -> str:
        """What `print(model)` says."""
        return str(self.channels)
