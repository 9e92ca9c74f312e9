from collections import OrderedDict
from collections.abc import Callable, Sequence

import pytest
from torch import nn

STUDENT_CHANNELS = (16, 32, 64, 128, 256, 256, 256, 256)
BuildStudent = Callable[..., nn.Sequential]


def _block(index: int, inputs: int, outputs: int) -> nn.Sequential:
    pool = [nn.MaxPool2d(2)] if index <= 3 else []
    if index == 0:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU6(), *pool)
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
    return nn.Sequential(depthwise, nn.BatchNorm2d(inputs), nn.ReLU6(), nn.Conv2d(inputs, outputs, 1), *pool)


def _student(channels: Sequence[int] = STUDENT_CHANNELS, classes: int = 11) -> nn.Sequential:
    inputs = [3, *channels[:-1]]
    blocks = [_block(k, inputs[k], channels[k]) for k in range(len(channels))]
    return nn.Sequential(
        OrderedDict(
            blocks=nn.Sequential(*blocks),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(channels[-1], classes),
        )
    )


@pytest.fixture(scope="session")
def build_student() -> BuildStudent:
    """Builds the MobileNet student: eight blocks with maxpool after the first four."""
    return _student
