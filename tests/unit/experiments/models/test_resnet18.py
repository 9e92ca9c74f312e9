import torch
from torchvision.models import resnet18 as published

from experiments.models import resnet18


def test_is_torchvisions_with_a_head_for_the_classes():
    with torch.device("meta"):
        own, reference = resnet18.build(11).state_dict(), published().state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    expected = {name: tuple(value.shape) for name, value in reference.items()}
    assert shapes == {**expected, "fc.weight": (11, 512), "fc.bias": (11,)}
