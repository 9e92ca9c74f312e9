"""The teacher: torchvision's ResNet18 (He et al., 2016); 11,182,155 parameters with 11 classes."""

from torch import nn
from torchvision.models import resnet18


def build(classes: int) -> nn.Module:
    """Builds it without pre-trained weights."""
    model: nn.Module = resnet18(num_classes=classes)
    return model
