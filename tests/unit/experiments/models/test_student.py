import torch
from torch import nn

from experiments.models import student
from experiments.models.student_widths import PRUNED_BLOCKS, WIDTHS


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def test_the_first_block_is_ordinary_and_the_others_separable():
    model = student.build(11)
    convolutions = layers(model, nn.Conv2d)
    assert all(convolution.bias is not None for convolution in convolutions)
    first, *others = convolutions
    assert (first.in_channels, first.out_channels, first.kernel_size, first.groups) == (3, WIDTHS[0], (3, 3), 1)
    for depthwise, pointwise, before, after in zip(others[::2], others[1::2], WIDTHS, WIDTHS[1:], strict=False):
        assert (depthwise.groups, depthwise.in_channels, depthwise.out_channels) == (before, before, before)
        assert (depthwise.kernel_size, depthwise.padding) == ((3, 3), (1, 1))
        assert (pointwise.groups, pointwise.in_channels, pointwise.out_channels) == (1, before, after)
        assert pointwise.kernel_size == (1, 1)


def test_nothing_follows_a_pointwise_convolution_but_pooling():
    blocks = list(student.build(11))[1:8]
    kinds = [[type(layer) for layer in block] for block in blocks]
    separable = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU6, nn.Conv2d]
    assert kinds == [[*separable, nn.MaxPool2d]] * 3 + [separable] * 4


def test_each_of_the_first_four_blocks_halves_the_image():
    images, sides = torch.zeros(2, 3, 32, 32), []
    for block in list(student.build(11).eval())[:8]:
        images = block(images)
        sides.append(images.shape[-1])
    assert sides == [16, 8, 4, 2, 2, 2, 2, 2]


def test_other_widths_are_the_blocks_own():
    widths = (4, 5, 6, 7, 8, 9, 10, 11)
    model = student.build(3, widths)
    assert [convolution.out_channels for convolution in layers(model, nn.Conv2d) if convolution.groups == 1] == list(
        widths
    )
    assert layers(model, nn.Linear)[0].in_features == widths[-1]
    assert all(f"{block + 1}.1.weight" in model.state_dict() for block in PRUNED_BLOCKS)
