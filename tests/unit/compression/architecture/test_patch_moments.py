import numpy as np
import pytest
import torch
from hypothesis import given, settings
from random_networks import convolutions
from torch import nn

from compression.architecture.patch_moments import measure_patch_moments

properties = settings(deadline=None, max_examples=25)


def padded(conv, image):
    modes = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    (top, left) = conv.padding
    return np.pad(image, [(0, 0), (top, top), (left, left)], mode=modes[conv.padding_mode])


def patches_by_hand(conv, images):
    """Every patch that the kernel is laid on, cut out one by one."""
    found = []
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(conv.dilation, conv.kernel_size, strict=True)]
    for image in images.numpy():
        canvas = padded(conv, image)
        for top in range(0, canvas.shape[1] - reach[0] + 1, conv.stride[0]):
            for left in range(0, canvas.shape[2] - reach[1] + 1, conv.stride[1]):
                window = canvas[:, top : top + reach[0] : conv.dilation[0], left : left + reach[1] : conv.dilation[1]]
                found.append(window.ravel())
    return np.array(found)


@given(convolutions())
@properties
def test_moments_are_those_of_patches_cut_out_by_hand(conv):
    images = torch.randn(3, conv.in_channels, 6, 7, dtype=torch.float64)
    moments = measure_patch_moments(conv, [""], [images[:1], images[1:]])[""]
    patches = patches_by_hand(conv, images)
    np.testing.assert_allclose(moments.mean.numpy(), patches.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.second.numpy(), patches.T @ patches / len(patches), atol=1e-12)


def test_inputs_of_layers_within_a_model_are_measured_in_evaluation_mode_and_all_is_put_back():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Conv2d(3, 4, 1)).double()
    model[1].eval()
    flags = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    moments = measure_patch_moments(model, ["3"], [images])["3"]
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    seen = model.eval()[:3](images).detach()
    torch.testing.assert_close(moments.mean, seen.mean(dim=(0, 2, 3)))


def test_flags_are_put_back_after_an_error_too():
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    with pytest.raises(RuntimeError):
        measure_patch_moments(model, ["0"], [torch.zeros(1, 5, 4, 4)])
    assert model.training
    assert not model[0]._forward_hooks


def test_a_layer_that_runs_twice_is_measured_on_both_inputs():
    conv = nn.Conv2d(2, 2, 1).double()
    images = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    moments = measure_patch_moments(nn.Sequential(conv, conv), ["0"], [images])["0"]
    both = torch.cat([images, conv(images).detach()])
    torch.testing.assert_close(moments.mean, both.mean(dim=(0, 2, 3)))


@pytest.mark.parametrize(
    ("layer", "batches", "message"),
    [
        (nn.Linear(4, 4), [], "layer '0' is Linear.*ungrouped Conv2d"),
        (nn.Conv2d(4, 4, 1, groups=2), [], "layer '0' is Conv2d.*ungrouped Conv2d"),
        (nn.Conv2d(4, 4, 1), [], "layer '0' saw no patch"),
        (nn.Conv2d(4, 4, 1), [torch.full((1, 4, 2, 2), float("inf"))], "layer '0' takes inputs that are not finite"),
    ],
)
def test_what_cannot_be_measured_is_an_error_that_names_the_layer(layer, batches, message):
    with pytest.raises(ValueError, match=message):
        measure_patch_moments(nn.Sequential(layer), ["0"], batches)


def test_a_layer_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="layer '1' is None"):
        measure_patch_moments(nn.Sequential(nn.Conv2d(1, 1, 1)), ["1"], [])
