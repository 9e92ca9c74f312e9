"""The student: eight MobileNet blocks; 256,779 parameters with 11 classes.

Block 0 is an ordinary 3x3 convolution. Blocks 1 to 7 are depthwise 3x3, BN, ReLU6 and a 1x1 convolution with nothing
after it (unlike MobileNet's, which has BN and ReLU there). Each of the first four halves the image.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from experiments.models.student_widths import WIDTHS

_POOLED_BLOCKS = 4


def build(classes: int, widths: Sequence[int] = WIDTHS) -> nn.Module:
    """Builds it with the given output channels of its blocks."""
    blocks = [_ordinary(3, widths[0])]
    blocks += [_separable(before, after) for before, after in pairwise(widths)]
    for block in blocks[:_POOLED_BLOCKS]:
        block.append(nn.MaxPool2d(2))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes)]
    return nn.Sequential(*blocks, *head)


def _ordinary(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU6())


def _separable(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, before, 3, padding=1, groups=before),
        nn.BatchNorm2d(before),
        nn.ReLU6(),
        nn.Conv2d(before, after, 1),
    )
