import copy

import pytest
import torch
from hypothesis import given, settings
from random_networks import assert_exportable, assert_trainable_and_savable, images, networks
from torch import nn

from compression.architecture.patch_moments import measure_patch_moments
from compression.architecture.rewriting import (
    grouped_convolutions,
    rewrite_grouped,
    rewrite_separable,
    separable_convolutions,
)
from compression.cost import parameter_count

properties = settings(deadline=None, max_examples=12)


def scrambled(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.uniform_(-1, 1)
    return other


def squared_error(rewriting, model):
    with torch.no_grad():
        return (rewriting.model(images(8)) - model(images(8))).square().mean().item()


@given(networks())
@properties
def test_every_weighted_layer_is_rewritten_or_left_for_a_reason(model):
    weighted = {name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    rewriting = rewrite_separable(model)
    assert set(rewriting.rewritten) | set(rewriting.left) == weighted
    assert not set(rewriting.rewritten) & set(rewriting.left)
    for name in rewriting.rewritten:
        depthwise, pointwise = rewriting.model.get_submodule(name)
        assert depthwise.groups == depthwise.in_channels
        assert pointwise.kernel_size == (1, 1)
    if rewriting.rewritten:
        assert parameter_count(rewriting.model) < parameter_count(model)
    for name, reason in rewriting.left.items():
        layer = model.get_submodule(name)
        assert reason.startswith("is a Linear") == isinstance(layer, nn.Linear)
        assert ("groups already" in reason) == (getattr(layer, "groups", 1) > 1)
        assert torch.equal(rewriting.model.get_submodule(name).weight, layer.weight)


@given(networks())
@properties
def test_at_a_large_multiplier_a_network_computes_what_it_did(model):
    rewriting = rewrite_separable(model, multiplier=99)
    with torch.no_grad():
        torch.testing.assert_close(rewriting.model(images()), model(images()))


@given(networks())
@properties
def test_group_convolutions_stand_where_the_channels_divide(model):
    rewriting = rewrite_grouped(model, 2)
    convs = {name: conv for name, conv in model.named_modules() if isinstance(conv, nn.Conv2d)}
    dividing = {name for name, conv in convs.items() if conv.groups == 1 and conv.in_channels % 2 == 0}
    assert set(rewriting.rewritten) == dividing == set(grouped_convolutions(model, 2))
    saved = sum(convs[name].weight.numel() // 2 for name in dividing)
    assert parameter_count(model) - parameter_count(rewriting.model) == saved
    assert "2 groups don't divide the 3 input" in rewriting.left["0"]


@pytest.mark.parametrize("rewrite", [rewrite_separable, lambda model: rewrite_grouped(model, 2)])
@given(model=networks())
@properties
def test_a_network_can_still_be_trained_and_saved(rewrite, model):
    rebuilt = rewrite(scrambled(model))
    assert_trainable_and_savable(rewrite(model).model, rebuilt.model)


@pytest.mark.parametrize("rewrite", [rewrite_separable, lambda model: rewrite_grouped(model, 2)])
def test_a_network_can_still_be_exported(rewrite):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(384, 2)).double()
    rewriting = rewrite(model.eval())
    assert "2" in rewriting.rewritten
    assert_exportable(rewriting.model)


def trained_model():
    """Two convolutions whose inputs go together, as neighbouring pixels and channels of features do."""
    torch.manual_seed(0)
    smooth = nn.AvgPool2d(3, stride=1, padding=1)
    return nn.Sequential(smooth, nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).double().eval()


@pytest.mark.parametrize(
    ("names", "rewrite"),
    [
        (separable_convolutions(trained_model()), rewrite_separable),
        (grouped_convolutions(trained_model(), 2), lambda model, **options: rewrite_grouped(model, 2, **options)),
    ],
)
def test_moments_of_the_layers_to_rewrite_make_the_outputs_better(names, rewrite):
    model = trained_model()
    assert names == ["3"]
    moments = measure_patch_moments(model, names, [images(8)])
    assert squared_error(rewrite(model, moments=moments), model) < 0.7 * squared_error(rewrite(model), model)
    with pytest.raises(ValueError, match=r"moments of \['3'\] are missing"):
        rewrite(model, moments={})


def test_reasons_to_leave_a_layer():
    shared = nn.Conv2d(4, 8, 3)
    twin = nn.Conv2d(4, 8, 3)
    twin.weight = shared.weight
    model = nn.ModuleDict(
        {
            "pointwise": nn.Conv2d(4, 8, 1),
            "grouped": nn.Conv2d(4, 8, 3, groups=2),
            "narrow": nn.Conv2d(8, 1, 3),
            "twins": nn.Sequential(shared, twin),
            "skipped": nn.Conv2d(4, 8, 3),
            "up": nn.ConvTranspose2d(4, 8, 3),
        }
    )
    rewriting = rewrite_separable(model, skip=["skipped"])
    assert rewriting.rewritten == ()
    assert rewriting.left == {
        "pointwise": "has a 1x1 kernel, which is pointwise already",
        "grouped": "has 2 groups already",
        "narrow": "would grow from 73 to 81 parameters",
        "twins.0": "shares its weight with another layer",
        "twins.1": "shares its weight with another layer",
        "skipped": "is to be skipped",
        "up": "is a ConvTranspose2d, not a Conv2d",
    }


def test_numbers_out_of_their_bounds_and_weights_not_finite_are_errors():
    model = nn.Sequential(nn.Conv2d(4, 8, 3))
    with pytest.raises(ValueError, match="multiplier is 0"):
        rewrite_separable(model, multiplier=0)
    with pytest.raises(ValueError, match="groups is 1; it must be at least 2"):
        rewrite_grouped(model, 1)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    for rewrite in (rewrite_separable, lambda model: rewrite_grouped(model, 2)):
        with pytest.raises(ValueError, match=r"layer '0': the weight of Conv2d.* not finite"):
            rewrite(model)
