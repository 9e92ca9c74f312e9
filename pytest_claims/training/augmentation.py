"""Random flips, shifts and rotations of whole batches of uint8 images.

What happens to an image is drawn for all images of a view at once and depends on the seed and the view alone, so that
models which are compared see the same images, and what another model answers to a view can be kept.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pytest_claims.recipes.recipe import Augmentation


def draw_view(augmentation: Augmentation, count: int, generator: torch.Generator) -> Tensor:
    """Draws the sampling transform of each image of a view.

    Returns:
        float32 (count, 2, 3): maps output to input positions, both in [-1, 1] over the image.
    """
    uniform = torch.rand((count, 4), generator=generator) * 2 - 1
    angle = uniform[:, 0] * math.radians(augmentation.rotation)
    mirror = torch.where(uniform[:, 1] < 0, -1.0, 1.0) if augmentation.flip else torch.ones(count)
    shift = uniform[:, 2:] * (2 * augmentation.shift)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack([mirror * cos, -sin, shift[:, 0], mirror * sin, cos, shift[:, 1]], dim=1)
    return rows.reshape(count, 2, 3)


def apply_view(images: Tensor, transforms: Tensor) -> Tensor:
    """Resamples a batch bilinearly, edges reflected.

    Args:
        images: uint8 (n, channels, height, width).
        transforms: float32 (n, 2, 3), of `draw_view`.

    Returns:
        float32 (n, channels, height, width) in [0, 1], channels-last in memory.
    """
    batch = as_input(images)
    grid = F.affine_grid(transforms.to(batch.device), list(batch.shape), align_corners=False)
    moved = F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


def as_input(images: Tensor) -> Tensor:
    """Turns uint8 images into float32 in [0, 1], channels-last in memory; as in the report, no other normalization."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)
