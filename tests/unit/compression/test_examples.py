import importlib
import pkgutil
import re
import textwrap

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compression import architecture, distillation, low_rank

PACKAGES = (architecture, distillation, low_rank)
MODULES = [
    "compression.taps",
    "compression.cost",
    "compression.layers.channel_order",
    "compression.layers.replacement",
    *(f"{package.__name__}.{module.name}" for package in PACKAGES for module in pkgutil.iter_modules(package.__path__)),
]
WITH_EXAMPLES = [name for name in [*MODULES, *(package.__name__ for package in PACKAGES)] if name != "compression.cost"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 96, 3, padding=1)
        self.layer1 = nn.Sequential(nn.ModuleDict({"conv1": nn.Conv2d(96, 96, 3, padding=1)}))
        self.fc = nn.Linear(96, 40)

    def forward(self, images):
        return self.fc(self.layer1[0]["conv1"](self.conv2(self.conv1(images))).mean((2, 3)))


def classifier():
    blocks = nn.Sequential(*(nn.Conv2d(3 if k == 0 else 8, 8, 3, padding=1) for k in range(6)))
    layers = {"blocks": blocks, "layer3": nn.ReLU(), "avgpool": nn.AdaptiveAvgPool2d(1), "pool": nn.Identity()}
    model = nn.Sequential()
    for name, layer in {**layers, "flatten": nn.Flatten(), "fc": nn.Linear(8, 5)}.items():
        model.add_module(name, layer)
    return model


@pytest.fixture
def namespace():
    """The public names of all modules, and what the examples call a user's own."""
    torch.manual_seed(0)
    names = {"torch": torch, "nn": nn, "F": F, "np": np}
    for name in MODULES:
        names |= {key: value for key, value in vars(importlib.import_module(name)).items() if not key.startswith("_")}
    images, teacher, student = torch.randn(4, 3, 8, 8), classifier(), classifier()
    conv = nn.Conv2d(8, 8, 3, padding=1)
    return names | {
        "model": Model(),
        "images": images,
        "batches": [images],
        "labels": torch.arange(4),
        "teacher": teacher,
        "teachers": [teacher, classifier()],
        "student": student,
        "logits": student(images),
        "answers": teacher(images).detach(),
        "conv": conv,
        "weight": torch.zeros(8, 8, 3, 1),
        "moments": names["measure_patch_moments"](conv, [""], [torch.randn(1, 8, 6, 6)])[""],
        "build": lambda width: nn.Linear(width, width),
        "finetune": lambda model: model(images),
    }


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_modules_docstring_run(name, namespace):
    examples = re.findall(r"(?:^    .*\n)+", importlib.import_module(name).__doc__, re.MULTILINE)
    assert examples
    for example in examples:
        assert example.count("\n") <= 10
        exec(textwrap.dedent(example).replace("224", "8"), namespace)
