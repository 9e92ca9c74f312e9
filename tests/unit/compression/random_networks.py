"""Convolutions and small networks drawn by hypothesis, and what must hold of any network that comes out."""

import copy

import torch
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

SIDE = 12
KERNELS = st.tuples(st.integers(1, 3), st.integers(1, 3))
UNGROUPED = st.just(1)
DOUBLE = st.just(torch.float64)
DTYPES = st.sampled_from([torch.float32, torch.float64])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}


@st.composite
def convolutions(draw, kernels=KERNELS, groups=UNGROUPED, dtypes=DOUBLE, most=4, paddings=None):
    torch.manual_seed(draw(st.integers(0, 2**31)))
    count = draw(groups)
    kernel = draw(kernels)
    modes = st.sampled_from(paddings or ["zeros", "reflect", "replicate", "circular"])
    return nn.Conv2d(
        count * draw(st.integers(1, most)),
        count * draw(st.integers(1, most)),
        kernel,
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        padding=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        groups=count,
        bias=draw(st.booleans()),
        padding_mode=draw(modes),
        dtype=draw(dtypes),
    )


class Residual(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, images):
        return torch.relu(images + self.body(images))


class Concat(nn.Module):
    def __init__(self, left, right):
        super().__init__()
        self.left, self.right = left, right

    def forward(self, images):
        return torch.cat([self.left(images), self.right(images)], dim=1)


@st.composite
def same_size(draw, inputs, outputs, stride=1):
    """A convolution that keeps the size of a map, or halves it."""
    kernel, dilation = draw(st.sampled_from([1, 3])), draw(st.integers(1, 2))
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if inputs % g == 0 and outputs % g == 0]))
    padding = dilation * (kernel // 2)
    bias = draw(st.booleans())
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups=groups, bias=bias)


@st.composite
def blocks(draw, inputs):
    """A block and its output channels."""
    kind = draw(st.sampled_from(["plain", "residual", "concat", "depthwise"]))
    if kind == "residual":
        convs = [draw(same_size(inputs, inputs)) for _ in range(2)]
        return Residual(nn.Sequential(convs[0], nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), convs[1])), inputs
    if kind == "concat":
        widths = [draw(st.sampled_from([4, 8])) for _ in range(2)]
        return Concat(*(draw(same_size(inputs, width)) for width in widths)), sum(widths)
    width = draw(st.sampled_from([4, 8]))
    first = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs) if kind == "depthwise" else nn.Identity()
    last = draw(same_size(inputs, width, stride=draw(st.integers(1, 2))))
    return nn.Sequential(first, last, nn.BatchNorm2d(width), nn.ReLU(inplace=True)), width


@st.composite
def networks(draw):
    """A float64 classifier of (N, 3, SIDE, SIDE) into 5 classes, in evaluation mode, its BatchNorms as if trained."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layers, channels = [nn.Conv2d(3, 4, 3, padding=1)], 4
    for _ in range(draw(st.integers(1, 3))):
        block, channels = draw(blocks(channels))
        layers.append(block)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 5)).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def images(count=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator, dtype=dtype)


def assert_trainable_and_savable(model, rebuilt):
    """The loss falls along the gradient of every parameter; a state dict gives the model back to another."""
    inputs, labels = images(4), torch.arange(4)
    loss = nn.functional.cross_entropy(model(inputs), labels)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    squares = sum(gradient.square().sum() for gradient in gradients)
    assert squares > 0
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 1e-6 / squares.sqrt() * gradient
        moved = nn.functional.cross_entropy(model(inputs), labels)
        expected = loss - 1e-6 * squares.sqrt()
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-7 * float(squares.sqrt()) + 1e-12)
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        rebuilt.load_state_dict(load(save(state)))
        assert torch.equal(rebuilt(inputs), model(inputs))


def assert_exportable(model):
    exported = torch.export.export(model, (images(),))
    torch.testing.assert_close(exported.module()(images()), model(images()))


def effective_kernel(module, conv):
    """The dense kernel (outputs, inputs, height, width) of what stands for a convolution: its answers to impulses.

    Strides, paddings and dilations are left out.
    """
    module = copy.deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride, layer.dilation, layer.padding, layer.padding_mode = (1, 1), (1, 1), (0, 0), "zeros"
            layer.bias = None
    height, width = conv.kernel_size
    impulses = torch.zeros(conv.in_channels, conv.in_channels, 2 * height - 1, 2 * width - 1, dtype=conv.weight.dtype)
    impulses[range(conv.in_channels), range(conv.in_channels), height - 1, width - 1] = 1
    with torch.no_grad():
        return module(impulses).flip(2, 3).transpose(0, 1)


def dense_convolution(conv, kernel, bias):
    """An ungrouped convolution of a kernel with the geometry of another."""
    dense = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        bias=bias is not None,
        padding_mode=conv.padding_mode,
        dtype=conv.weight.dtype,
    )
    with torch.no_grad():
        dense.weight.copy_(kernel)
        if bias is not None:
            dense.bias.copy_(bias)
    return dense


def assert_close(actual, expected):
    tolerance = TOLERANCE[expected.dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=10 * tolerance)
