"""Networks to prune: torchvision's, small and random ones, with numbers that tell channels apart."""

import torch
import torchvision
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from compression.pruning.cut import units_to_keep

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
    """A selection drawn for each group: any non-empty set of its units, if no layer is emptied by them together."""
    selection = {
        group.name: torch.tensor(sorted(data.draw(st.sets(st.sampled_from(range(len(group.units))), min_size=1))))
        for group in graph.groups
    }
    try:
        units_to_keep(graph, selection)
    except ValueError:
        assume(False)
    return selection


def every_other(graph):
    """A selection of units 0, 2, 4, ... of every group."""
    return {group.name: torch.arange(0, len(group.units), 2) for group in graph.groups}


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, inputs):
        return inputs + self.inner(inputs)


class Concatenated(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, inputs):
        return torch.cat([inputs, self.inner(inputs)], 1)


class Sum(nn.Module):
    """Its one group has eight units, of which the concatenated layers make four each."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.both = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, inputs):
        return self.last(torch.cat([self.left(inputs), self.right(inputs)], 1) + self.both(inputs))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)

    def forward(self, inputs):
        return inputs * torch.sigmoid(self.up(torch.relu(self.down(inputs.mean((2, 3), keepdim=True)))))


class Shuffled(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, inputs):
        batch, channels, height, width = inputs.shape
        grouped = inputs.view(batch, self.groups, channels // self.groups, height, width)
        return grouped.transpose(1, 2).reshape(batch, channels, height, width)


class HalfProcessed(nn.Module):
    """Half of the channels pass by."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, inputs):
        first, second = inputs.chunk(2, dim=1)
        return torch.cat([self.inner(first), second], dim=1)


class ChannelsLast(nn.Module):
    """LayerNorm and linear layers over the last dimension, scaled by a parameter, as in ConvNeXt."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(channels), nn.Linear(channels, 5), nn.Linear(5, channels)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, inputs):
        hidden = self.down(torch.sigmoid(self.up(self.norm(inputs.permute(0, 2, 3, 1)))))
        return inputs + self.scale * hidden.permute(0, 3, 1, 2)


class Classifier(nn.Module):
    """Body, then all features of all positions into a hidden linear layer."""

    def __init__(self, body, features):
        super().__init__()
        self.body = body
        self.hidden, self.norm, self.last = nn.Linear(features, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, inputs):
        return self.last(torch.sigmoid(self.norm(self.hidden(self.body(inputs).flatten(1)))))


def _convolution(draw, before):
    after = draw(st.sampled_from([4, 6, 8]))
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4, before) if before % g == 0 and after % g == 0]))
    kernel, dilation = draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
    convolution = nn.Conv2d(
        before,
        after,
        kernel,
        stride=draw(st.integers(1, 2)),
        padding=dilation * (kernel // 2),
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )
    return convolution, after


def _keeping(draw, channels):
    """A layer stack that gives as many channels and positions as it takes."""
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=draw(st.booleans()))
    ordinary = nn.Conv2d(channels, channels, 3, padding=1, bias=draw(st.booleans()))
    return nn.Sequential(
        draw(st.sampled_from([depthwise, ordinary])), _norm(draw, channels), _activation(draw, channels)
    )


def _norm(draw, channels):
    return draw(
        st.sampled_from(
            [
                nn.BatchNorm2d(channels),
                nn.BatchNorm2d(channels, affine=False),
                nn.GroupNorm(1, channels),
                nn.GroupNorm(2, channels) if channels % 2 == 0 else nn.Identity(),
                nn.Identity(),
            ]
        )
    )


def _activation(draw, channels):
    return draw(st.sampled_from([nn.ReLU(), nn.Sigmoid(), nn.PReLU(channels), nn.PReLU(), nn.Softplus(), nn.SiLU()]))


def _block(draw, before):
    kind = draw(st.sampled_from(["convolution", "residual", "concatenated", "excitation", "shuffled", "half", "last"]))
    if kind == "residual":
        return Residual(_keeping(draw, before)), before
    if kind == "concatenated":
        return Concatenated(_keeping(draw, before)), 2 * before
    if kind == "excitation":
        return SqueezeExcitation(before), before
    if kind == "shuffled" and before % 2 == 0:
        return Shuffled(2), before
    if kind == "half" and before % 2 == 0:
        return HalfProcessed(_keeping(draw, before // 2)), before
    if kind == "last":
        return ChannelsLast(before), before
    convolution, after = _convolution(draw, before)
    return nn.Sequential(convolution, _norm(draw, after), _activation(draw, after)), after


@st.composite
def random_networks(draw):
    """A network of two to four random blocks, and the shape of its input: one position or several."""
    size = draw(st.sampled_from([1, 5]))
    convolution, channels = _convolution(draw, 3)
    blocks = [convolution, _norm(draw, channels)]
    for _ in range(draw(st.integers(1, 3))):
        block, channels = _block(draw, channels)
        blocks.append(block)
    body = nn.Sequential(*blocks)
    with torch.no_grad():
        features = body.eval()(torch.zeros(2, 3, size, size)).flatten(1).shape[1]
    return randomized(Classifier(body, features), draw(st.integers(0, 2**31))), (3, size, size)
