"""The precision that losses are computed in, whatever the models run in.

A loss of one's own, safe in half precision and under autocast:

    with full_precision(student(images), answers) as (ours, theirs):
        loss = F.smooth_l1_loss(ours, theirs)
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Give tensors in float32 at least, and keep autocast from what is computed inside.

    A loss is a small difference of large numbers: bfloat16 takes half of a divergence at temperature 100, and
    float16 holds no square of 300. float32 and float64 stay as they are. Gradients flow, in each tensor's own type.

    Args:
        tensors: At least one tensor, all of floating point and on one device.
    """
    device = tensors[0].device.type
    # Devices without autocast, as meta, refuse to have it turned off, too.
    known = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if known else nullcontext():
        yield tuple(tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors)
