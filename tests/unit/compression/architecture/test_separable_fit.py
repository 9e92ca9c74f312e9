import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import DTYPES, assert_close, convolutions, dense_convolution, effective_kernel
from torch import nn
from torch.nn import functional as F

from compression.architecture.patch_moments import PatchMoments, measure_patch_moments
from compression.architecture.separable_fit import fit_separable, full_multiplier, separable_fit_parameters
from compression.cost import parameter_count
from compression.layers.replacement import convolution_like

properties = settings(deadline=None, max_examples=25)
zero_padded = convolutions(st.sampled_from([(3, 3), (2, 3), (1, 2)]), paddings=["zeros"])


def correlated_images(channels, seed=0, count=6):
    """Images whose channels and neighbouring pixels go together, and whose mean is not 0."""
    torch.manual_seed(seed)
    noise = F.avg_pool2d(torch.randn(count, channels, 9, 9, dtype=torch.float64), 3, stride=1)
    mixing = torch.randn(channels, channels, dtype=torch.float64)
    return torch.einsum("nchw,dc->ndhw", noise, mixing) + torch.randn(channels, 1, 1, dtype=torch.float64)


def moments_of(conv, images):
    return measure_patch_moments(conv, [""], [images])[""]


def output_error(fitted, conv, images):
    with torch.no_grad():
        return (fitted(images) - conv(images)).square().mean().item()


@given(convolutions(dtypes=DTYPES), st.data())
@properties
def test_the_kernel_is_the_nearest_of_its_rank_for_each_input_channel(conv, data):
    multiplier = data.draw(st.integers(1, full_multiplier(conv)))
    fitted = fit_separable(conv, multiplier=multiplier)
    kernel = conv.weight.detach().double().numpy()
    slices = kernel.transpose(1, 0, 2, 3).reshape(conv.in_channels, conv.out_channels, -1)
    dropped = np.linalg.svd(slices, compute_uv=False)[:, multiplier:]
    error = (effective_kernel(fitted, conv) - conv.weight).double().norm().item()
    assert error == pytest.approx(
        np.sqrt((dropped**2).sum()), abs=1e-6 if conv.weight.dtype == torch.float32 else 1e-12
    )
    assert parameter_count(fitted) == separable_fit_parameters(conv, multiplier)


@given(convolutions(dtypes=DTYPES), st.data())
@properties
def test_it_computes_a_convolution_of_its_kernel_with_the_layers_geometry(conv, data):
    fitted = fit_separable(conv, multiplier=data.draw(st.integers(1, full_multiplier(conv))))
    images = torch.randn(2, conv.in_channels, 7, 6, dtype=conv.weight.dtype)
    assert_close(fitted(images), dense_convolution(conv, effective_kernel(fitted, conv), conv.bias)(images))
    assert [layer.groups for layer in fitted] == [conv.in_channels, 1]


@given(convolutions(), st.booleans())
@properties
def test_at_the_full_multiplier_nothing_is_lost(conv, with_moments):
    images = correlated_images(conv.in_channels)
    moments = moments_of(conv, images) if with_moments else None
    fitted = fit_separable(conv, multiplier=full_multiplier(conv), moments=moments)
    torch.testing.assert_close(fitted(images), conv(images), rtol=1e-6, atol=1e-6)


@given(zero_padded, st.booleans())
@properties
def test_a_dense_form_of_a_separable_convolution_is_found_again(conv, with_moments):
    torch.manual_seed(0)
    depthwise = convolution_like(conv, conv.in_channels, conv.in_channels, groups=conv.in_channels, bias=False)
    separable = nn.Sequential(depthwise, nn.Conv2d(conv.in_channels, conv.out_channels, 1).double())
    dense = dense_convolution(conv, effective_kernel(separable, conv), separable[1].bias)
    images = correlated_images(conv.in_channels)
    fitted = fit_separable(dense, moments=moments_of(dense, images) if with_moments else None)
    torch.testing.assert_close(fitted(images), separable(images), rtol=1e-6, atol=1e-6)


def least_squares_error(features, wanted):
    """The mean squared error of the best linear map from rows to rows, by a regression in numpy."""
    solution = np.linalg.lstsq(features, wanted, rcond=None)[0]
    return ((features @ solution - wanted) ** 2).mean()


def rows(maps):
    return maps.detach().movedim(1, -1).flatten(0, -2).numpy()


def with_intercept(features, bias):
    return np.concatenate([features, np.ones((len(features), 1))], axis=1) if bias is not None else features


@given(zero_padded, st.integers(0, 2))
@properties
def test_the_pointwise_weights_and_bias_are_the_regression_on_what_the_depthwise_filters_give(conv, sweeps):
    images = correlated_images(conv.in_channels)
    fitted = fit_separable(conv, moments=moments_of(conv, images), sweeps=sweeps)
    features = with_intercept(rows(fitted[0](images)), conv.bias)
    best = least_squares_error(features, rows(conv(images)))
    assert output_error(fitted, conv, images) == pytest.approx(best, rel=1e-6, abs=1e-12)


@given(zero_padded)
@properties
def test_moments_and_sweeps_never_make_the_outputs_worse(conv):
    images = correlated_images(conv.in_channels)
    moments = moments_of(conv, images)
    fits = [fit_separable(conv), *(fit_separable(conv, moments=moments, sweeps=sweeps) for sweeps in (0, 1, 3))]
    errors = [output_error(fitted, conv, images) for fitted in fits]
    assert all(later <= earlier * (1 + 1e-9) + 1e-12 for earlier, later in itertools.pairwise(errors))


def test_moments_make_the_outputs_much_better_where_pixels_are_alike():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, padding=1).double()
    images = correlated_images(8, count=32)
    blind = fit_separable(conv)
    informed = fit_separable(conv, moments=moments_of(conv, images), sweeps=2)
    assert output_error(informed, conv, images) < 0.5 * output_error(blind, conv, images)


def test_after_a_sweep_the_filters_are_nearly_the_best_given_the_pointwise_weights():
    # At a fixed point both are the optimum given the other: no small change of the filters helps.
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3).double()
    images = correlated_images(3, count=16)
    fitted = fit_separable(conv, moments=moments_of(conv, images), sweeps=500)
    with torch.no_grad():
        wanted = conv(images)
    loss = (fitted(images) - wanted).square().mean()
    loss.backward()
    scale = fitted[0].weight.detach().norm() / loss.detach()
    assert (fitted[0].weight.grad.norm() * scale).item() < 1e-3
    assert (fitted[1].weight.grad.norm() * scale).item() < 1e-6


@given(zero_padded, st.integers(0, 1000), st.data())
@properties
def test_where_channels_are_uncorrelated_the_whitened_decomposition_is_the_optimum(conv, seed, data):
    random = np.random.default_rng(seed)
    area = conv.weight[0, 0].numel()
    multiplier = data.draw(st.integers(1, full_multiplier(conv)))
    roots = [random.normal(size=(area, area)) for _ in range(conv.in_channels)]
    second = torch.block_diag(*(torch.tensor(root @ root.T) for root in roots))
    moments = PatchMoments(torch.zeros(len(second), dtype=torch.float64), second)
    fitted = fit_separable(conv, multiplier=multiplier, moments=moments, sweeps=1)
    lost = (effective_kernel(fitted, conv) - conv.weight).flatten(1).detach()
    kernel = conv.weight.detach().flatten(2).numpy()
    # Eckart and Young in whitened patches: no kernel of this form has a smaller error.
    values = [np.linalg.svd(kernel[:, i] @ root, compute_uv=False) for i, root in enumerate(roots)]
    least = sum((each[multiplier:] ** 2).sum() for each in values)
    assert torch.einsum("od,de,oe->", lost, second, lost).item() == pytest.approx(least, rel=1e-6, abs=1e-9)


def test_a_dead_input_channel_does_no_harm():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3).double()
    images = correlated_images(3)
    images[:, 1] = 0
    fitted = fit_separable(conv, moments=moments_of(conv, images))
    assert all(torch.isfinite(parameter).all() for parameter in fitted.parameters())
    with_two = nn.Conv2d(2, 4, 3).double()
    with torch.no_grad():
        with_two.weight[:] = conv.weight[:, [0, 2]]
        with_two.bias[:] = conv.bias
    others = images[:, [0, 2]]
    expected = output_error(fit_separable(with_two, moments=moments_of(with_two, others)), with_two, others)
    assert output_error(fitted, conv, images) == pytest.approx(expected, rel=1e-6)


def test_flags_are_kept_the_layer_untouched_and_no_random_number_drawn():
    conv = nn.Conv2d(3, 4, 3).eval()
    conv.weight.requires_grad_(False)
    before, state = conv.weight.clone(), torch.get_rng_state()
    fitted = fit_separable(conv)
    assert torch.equal(torch.get_rng_state(), state)
    assert [parameter.requires_grad for parameter in fitted.parameters()] == [False, False, True]
    assert not fitted.training
    with torch.no_grad():
        for parameter in fitted.parameters():
            parameter.zero_()
    assert torch.equal(conv.weight, before)
    assert conv.bias.abs().sum() > 0


@pytest.mark.parametrize(
    ("conv", "options", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), {}, "has 2 groups"),
        (nn.Conv2d(4, 5, 3), {"multiplier": 0}, "multiplier is 0; from 1 to 5 is possible"),
        (nn.Conv2d(4, 16, 3), {"multiplier": 10}, "multiplier is 10; from 1 to 9 is possible"),
        (nn.Conv2d(4, 5, 3), {"sweeps": -1}, "sweeps is -1"),
        (nn.Conv2d(4, 5, 3), {"moments": PatchMoments(torch.zeros(4), torch.eye(4))}, "moments of patches of 4 values"),
    ],
)
def test_what_cannot_be_fitted_is_an_error(conv, options, message):
    with pytest.raises(ValueError, match=message):
        fit_separable(conv, **options)
