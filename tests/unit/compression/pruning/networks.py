"""Networks to prune: torchvision's, small and random ones, with numbers that tell channels apart."""

from functools import cache

import torch
import torchvision
from hypothesis import strategies as st
from torch import nn

TORCHVISION = (
    "resnet18",
    "resnet50",
    "vgg16_bn",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "squeezenet1_1",
    "efficientnet_b0",
    "googlenet",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
    "convnext_tiny",
    "mnasnet0_5",
)
IMAGE = (3, 32, 32)


@cache
def torchvision_network(name):
    """In float64, evaluation mode; VGG's hidden linear layers have 64 units, as 4096 take a gigabyte."""
    device = "cpu" if name.startswith("regnet") else "meta"
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device(device):
        model = torchvision.models.get_model(name, weights=None, num_classes=10, **options)
        if name == "vgg16_bn":
            model.classifier = nn.Sequential(
                nn.Linear(25088, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
            )
    return randomized(model.double().to_empty(device="cpu"))


def randomized(model, seed=0):
    """In float64, evaluation mode, all numbers drawn, at a scale that keeps activations alive."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim > 1:
            tensor.normal_(generator=generator).mul_(1.4 / tensor[0].numel() ** 0.5)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.normal_(0.0, 0.3, generator=generator).add_(float(name.endswith("weight")))
    return model


def images(shape=(2, *IMAGE), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(model, inputs):
    with torch.no_grad():
        return model(inputs)


def some_units(graph, data):
    """A selection drawn for each group: any non-empty set of its units."""
    return {
        group.name: torch.tensor(sorted(data.draw(st.sets(st.sampled_from(range(len(group.units))), min_size=1))))
        for group in graph.groups
    }


def every_other(graph):
    """A selection of units 0, 2, 4, ... of every group."""
    return {group.name: torch.arange(0, len(group.units), 2) for group in graph.groups}
