import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.cost import multiply_accumulates, parameter_count
from compression.quantization.affine import AffineSpec
from compression.quantization.fake import follow_weights, quantize_weights
from compression.quantization.ranges import min_max


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 2, 3, 4]))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    return nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
    )


def count_by_hand(conv, height, width):
    """Counts, output by output, the products that a convolution sums."""
    out_height, out_width = (
        (size + 2 * conv.padding[d] - conv.dilation[d] * (conv.kernel_size[d] - 1) - 1) // conv.stride[d] + 1
        for d, size in enumerate((height, width))
    )
    products_an_output = conv.in_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
    return conv.out_channels * out_height * out_width * products_an_output


@given(convolutions(), st.integers(6, 9), st.integers(6, 9))
@settings(deadline=None, max_examples=40)
def test_convolutions_of_any_groups_stride_and_dilation_are_counted_as_by_hand(conv, height, width):
    count = multiply_accumulates(conv, (conv.in_channels, height, width))
    assert count == count_by_hand(conv, height, width)


def test_groups_divide_the_count():
    counts = {g: multiply_accumulates(nn.Conv2d(8, 16, 3, groups=g), (8, 6, 6)) for g in (1, 2, 4, 8)}
    assert counts == {g: 16 * 8 // g * 9 * 16 for g in counts}


@pytest.mark.parametrize(("bias", "shape"), [(True, (12,)), (False, (12,)), (True, (5, 12))])
def test_a_linear_layer_is_counted_for_each_row(bias, shape):
    rows = shape[0] if len(shape) == 2 else 1
    assert multiply_accumulates(nn.Linear(12, 7, bias=bias), shape) == rows * 12 * 7


def test_the_student_is_counted_as_by_hand(build_student):
    channels = (16, 32, 64, 128, 256, 256, 256, 256)
    expected = 32 * 32 * 3 * 16 * 9 + 256 * 11
    for k in range(1, 8):
        side = 32 >> min(k, 4)
        expected += side * side * (channels[k - 1] * 9 + channels[k - 1] * channels[k])
    assert multiply_accumulates(build_student(), (3, 32, 32)) == expected
    assert parameter_count(build_student()) == 256_779


def test_a_resnet18_has_the_published_cost():
    model = torchvision.models.resnet18()
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    assert parameter_count(model) == weights.meta["num_params"] == 11_689_512
    published = weights.meta["_ops"] * 1e9
    assert multiply_accumulates(model, (3, 224, 224)) == pytest.approx(published, rel=1e-3)


def test_counting_leaves_flags_and_batch_norm_statistics_as_they_were():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU())
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    multiply_accumulates(model, (3, 5, 5))
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    model(torch.randn(1, 3, 5, 5))
    assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])


class AuxiliaryHead(nn.Module):
    """Has a second head in training alone, as Inception has."""

    def __init__(self):
        super().__init__()
        self.head, self.auxiliary = nn.Linear(4, 3), nn.Linear(4, 100)

    def forward(self, features):
        return (self.head(features), self.auxiliary(features)) if self.training else self.head(features)


def test_what_runs_in_training_alone_is_not_counted():
    assert multiply_accumulates(AuxiliaryHead(), (4,)) == 12


def test_counting_draws_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    multiply_accumulates(nn.Sequential(nn.Dropout(), nn.Flatten()), (3, 2, 2))
    assert torch.equal(torch.rand(1), expected)


def test_a_shared_parameter_counts_once_and_a_frozen_one_too():
    layer = nn.Linear(3, 3)
    layer.weight.requires_grad_(False)
    assert parameter_count(nn.Sequential(layer, nn.ReLU(), layer)) == 12


@pytest.mark.parametrize("shape", [(3, 0, 4), (-1, 4, 4)])
def test_a_size_below_one_is_an_error(shape):
    with pytest.raises(ValueError, match="every size must be at least 1"):
        multiply_accumulates(nn.Conv2d(3, 4, 1), shape)


def test_a_shape_the_model_rejects_is_an_error_that_gives_it():
    with pytest.raises(ValueError, match=r"can't take an input of shape \(4, 5, 5\)"):
        multiply_accumulates(nn.Conv2d(3, 4, 1), (4, 5, 5))


@pytest.mark.parametrize("ranges", [None, min_max])
def test_quantized_weights_cost_what_the_float_ones_do(build_student, ranges):
    model = build_student()
    quantized = follow_weights(quantize_weights(model, AffineSpec(2, symmetric=False)), ranges)
    assert parameter_count(quantized) == parameter_count(model)
    assert multiply_accumulates(quantized, (3, 32, 32)) == multiply_accumulates(model, (3, 32, 32))


class Positioned(nn.Module):
    """Adds what it makes on the way, and a tensor that is no buffer."""

    def __init__(self):
        super().__init__()
        self.conv, self.grid = nn.Conv2d(3, 4, 1), torch.ones(4, 4)

    def forward(self, images):
        hidden = self.conv(images)
        return hidden + torch.linspace(0, 1, hidden.shape[-1]) + self.grid


def test_a_model_that_asks_for_numbers_is_not_said_to_be_given_a_wrong_shape():
    class Asking(nn.Module):
        def forward(self, images):
            return images * images.max().item()

    with pytest.raises(ValueError, match=r"shape \(3, 4, 4\), or can't run without data: "):
        multiply_accumulates(Asking(), (3, 4, 4))


def test_tensors_that_the_model_makes_itself_are_no_obstacle():
    assert multiply_accumulates(Positioned(), (3, 4, 4)) == multiply_accumulates(Positioned().conv, (3, 4, 4))
