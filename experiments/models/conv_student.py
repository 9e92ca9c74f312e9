"""The student with every layer turned into an ordinary convolution.

The report gives 2,233,995 parameters. Eight 3x3 convolutions with bias and BN have 2,168,203; the 65,792 that are
missing are 256 * 256 + 256, which two readings explain: a hidden linear layer before the classifier (`hidden`), or one
256 -> 256 block that keeps its 1x1 convolution (`pointwise`). Nothing in the report decides between them.
"""

from typing import Literal

from torch import nn

from experiments.models.student_widths import WIDTHS

_POOLED_BLOCKS = 4


def build(classes: int, extra: Literal["hidden", "pointwise", "none"] = "hidden") -> nn.Module:
    """Builds one of the two readings, or with `none` the plain twin of 2,168,203 parameters."""
    if extra not in ("hidden", "pointwise", "none"):
        raise ValueError(f"conv_student: extra is {extra!r}, must be 'hidden', 'pointwise' or 'none'")
    blocks = [_block(before, after) for before, after in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)]
    for block in blocks[:_POOLED_BLOCKS]:
        block.append(nn.MaxPool2d(2))
    if extra == "pointwise":
        blocks[-1].append(nn.Conv2d(WIDTHS[-2], WIDTHS[-1], 1))
    head: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if extra == "hidden":
        head += [nn.Linear(WIDTHS[-1], WIDTHS[-1]), nn.ReLU6()]
    return nn.Sequential(*blocks, *head, nn.Linear(WIDTHS[-1], classes))


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU6())
