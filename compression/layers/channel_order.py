"""Channels in another order, as a layer.

    shuffled = ChannelOrder.of(torch.tensor([2, 0, 1]))(images)     # its channel 0 is channel 2 of the images

Group convolutions are fitted between two of them.
"""

import torch
from torch import Tensor, nn


class ChannelOrder(nn.Module):
    """Channel j of the output is channel `order[j]` of the input; at first each stays where it is.

    Args:
        channels: The number of channels.
        device: Device of the order.
    """

    order: Tensor

    def __init__(self, channels: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(channels, device=device))

    @classmethod
    def of(cls, order: Tensor) -> "ChannelOrder":
        """Make a layer with an order, int64 of shape (channels,)."""
        layer = cls(len(order), order.device)
        layer.order.copy_(order)
        return layer

    @property
    def channels(self) -> int:
        """The number of channels."""
        return len(self.order)

    def is_permutation(self) -> bool:
        """Tell whether each channel comes once, as it need not in an order that was read from a file."""
        return torch.equal(self.order.sort().values, torch.arange(self.channels, device=self.order.device))

    def forward(self, images: Tensor) -> Tensor:
        """Reorder the channels of (N, channels, height, width), or of a single image without N."""
        return images.index_select(-3, self.order)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows of the layer."""
        return str(self.channels)
