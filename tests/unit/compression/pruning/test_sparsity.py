from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import torchvision_network
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from compression.pruning.sparsity import (
    apply_masks,
    cubic_sparsity,
    global_magnitude_masks,
    magnitude_masks,
    n_m_left_dense,
    n_m_masks,
    prunable_weights,
    sparsity,
    unprunable_weights,
)

properties = settings(deadline=None, max_examples=30)
numbers = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.5]) | st.floats(-1, 1), min_size=1, max_size=30)


@given(numbers, st.floats(0, 0.99))
@properties
def test_the_smallest_magnitudes_of_each_tensor_go(values, share):
    weight = torch.tensor(values, dtype=torch.float64)
    masks = magnitude_masks({"a": weight, "b": weight * 100}, share)
    count = int(share * len(values) + 1e-9)
    expected = sorted(sorted(range(len(values)), key=lambda i: (abs(values[i]), i))[:count])
    for name in ("a", "b"):
        assert (~masks[name]).nonzero().flatten().tolist() == expected


@given(numbers, numbers, st.floats(0, 0.99))
@properties
def test_globally_the_smallest_of_all_tensors_go(first, second, share):
    weights = {"a": torch.tensor(first, dtype=torch.float64), "b": torch.tensor([second], dtype=torch.float64)}
    masks = global_magnitude_masks(weights, share)
    both = first + second
    count = int(share * len(both) + 1e-9)
    expected = sorted(sorted(range(len(both)), key=lambda i: (abs(both[i]), i))[:count])
    assert masks["b"].shape == (1, len(second))
    assert (~torch.cat([masks["a"], masks["b"][0]])).nonzero().flatten().tolist() == expected


LAYERS = {
    "linear": partial(nn.Linear, 24, 6),
    "convolution": partial(nn.Conv2d, 24, 6, 3),
    "grouped": partial(nn.Conv2d, 48, 6, 3, groups=2),
    "transposed": partial(nn.ConvTranspose2d, 24, 6, 3),
    "transposed 1d, grouped": partial(nn.ConvTranspose1d, 48, 24, 3, groups=2),
}


def responses(layer, channels):
    """What each input alone gives: of shape (channels, numbers of the output)."""
    spatial = () if isinstance(layer, nn.Linear) else (5,) * (layer.weight.ndim - 2)
    inputs = torch.zeros(channels, channels, *spatial, dtype=torch.float64)
    inputs[(range(channels), range(channels), *(2 for _ in spatial))] = 1
    with torch.no_grad():
        return layer(inputs).flatten(1)


@given(st.integers(0, 2**31), st.sampled_from([(2, 4), (1, 4), (4, 8), (3, 3)]), st.sampled_from(sorted(LAYERS)))
@properties
def test_of_every_m_inputs_the_n_largest_reach_an_output(seed, pattern, kind):
    n, m = pattern
    torch.manual_seed(seed)
    layer = LAYERS[kind](bias=False).double()
    channels = getattr(layer, "in_channels", 24)
    dense = responses(layer, channels).unflatten(0, (-1, m)).abs()
    apply_masks(layer, n_m_masks(layer, n, m))
    sparse = responses(layer, channels).unflatten(0, (-1, m)).abs()
    largest = dense.sort(dim=1, descending=True).values[:, :n]
    torch.testing.assert_close(sparse.sort(dim=1, descending=True).values[:, :n], largest)
    assert not sparse.sort(dim=1, descending=True).values[:, n:].any()


def test_no_weight_is_lost_to_binary_floats():
    for choose in (magnitude_masks, global_magnitude_masks):
        assert int((~choose({"a": torch.ones(100)}, 0.29)["a"]).sum()) == 29


def test_torch_drops_the_same_weights():
    layers = [nn.Linear(16, 5), nn.Conv2d(3, 4, 3)]
    weights = {str(place): layer.weight.detach().clone() for place, layer in enumerate(layers)}
    ours = global_magnitude_masks(weights, 0.6)
    prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=int(0.6 * 188))
    for place, layer in enumerate(layers):
        assert torch.equal(ours[str(place)], layer.weight_mask.bool())


def test_without_arguments_the_pattern_is_two_of_four_and_of_equal_ones_the_first_stay():
    layer = nn.Linear(8, 1)
    nn.init.ones_(layer.weight)
    assert n_m_masks(layer)["weight"].tolist() == [[True, True, False, False] * 2]


def test_weights_whose_inputs_do_not_split_stay_dense_and_are_named():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 1),
        nn.ConvTranspose2d(6, 4, 2),
        nn.Linear(4, 1),
    )
    assert list(n_m_masks(model)) == ["2.weight", "4.weight"]
    assert n_m_left_dense(model) == {
        "0.weight": "has 3 inputs to each output, no multiple of 4",
        "1.weight": "has 1 inputs to each output, no multiple of 4",
        "3.weight": "has 6 inputs to each output, no multiple of 4",
    }
    assert n_m_left_dense(model, 1) == {}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_of_a_whole_network_what_fits_is_masked_and_the_rest_named(name):
    model = torchvision_network(name)
    masks, left = n_m_masks(model), n_m_left_dense(model)
    assert masks.keys() | left.keys() == prunable_weights(model).keys()
    assert not masks.keys() & left.keys()
    depthwise = [key for key, layer in model.named_modules() if getattr(layer, "groups", 1) > 1]
    first = "conv1.weight" if name == "resnet18" else "features.0.0.weight"
    assert set(left) == {first, *(f"{key}.weight" for key in depthwise)}
    apply_masks(model, masks)
    assert sparsity(prunable_weights(model)[key] for key in masks) == 0.5


@pytest.mark.parametrize("pattern", [(0, 4), (5, 4)])
def test_a_pattern_that_cannot_be_is_an_error(pattern):
    with pytest.raises(ValueError, match=f"n is {pattern[0]} and m 4; n must be from 1 to m"):
        n_m_masks(nn.Linear(4, 4), *pattern)
    with pytest.raises(ValueError, match="m is 0; at least 1"):
        n_m_left_dense(nn.Linear(4, 4), 0)


def test_a_pattern_of_what_is_no_number_names_the_tensor():
    network = model()
    nn.init.constant_(network[3].weight, float("nan"))
    with pytest.raises(ValueError, match=r"'3.weight' holds NaN"):
        n_m_masks(network)


def test_a_weight_that_layers_share_is_masked_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.first, self.second, self.out = (
                nn.Embedding(8, 8),
                nn.Linear(8, 8),
                nn.Linear(8, 8),
                nn.Linear(8, 8),
            )
            self.second.weight, self.out.weight = self.first.weight, self.words.weight

    for choose in (lambda model: global_magnitude_masks(prunable_weights(model), 0.5), n_m_masks):
        tied = Tied()
        masks = choose(tied)
        assert list(masks) == ["first.weight", "out.weight"]
        apply_masks(tied, masks)
        assert sparsity([tied.second.weight, tied.words.weight]) == 0.5


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, spectral_norm])
def test_computed_weights_are_left_out(wrap):
    network = nn.Sequential(wrap(nn.Linear(8, 8)), nn.Linear(8, 4))
    assert list(prunable_weights(network)) == list(n_m_masks(network)) == ["1.weight"]
    assert unprunable_weights(network) == n_m_left_dense(network) == {"0.weight": "is computed from other tensors"}
    apply_masks(network, magnitude_masks(prunable_weights(network), 0.5))
    assert sparsity([network[1].weight]) == 0.5


def test_matrices_of_other_layers_are_left_out_and_named():
    network = nn.ModuleDict(
        {"words": nn.Embedding(8, 4), "attention": nn.MultiheadAttention(4, 2), "out": nn.Linear(4, 8)}
    )
    assert list(prunable_weights(network)) == ["attention.out_proj.weight", "out.weight"]
    assert unprunable_weights(network) == {
        "words.weight": "belongs to a Embedding, no convolution or linear layer",
        "attention.in_proj_weight": "belongs to a MultiheadAttention, no convolution or linear layer",
    }
    network["out"].weight = network["words"].weight
    assert list(unprunable_weights(network)) == ["attention.in_proj_weight"]


def test_the_schedule_is_zhu_and_guptas():
    # s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3, here with t_0 = 10 and n dt = 40.
    expected = {0: 0.1, 10: 0.1, 20: 0.9 - 0.8 * 0.75**3, 30: 0.9 - 0.8 * 0.125, 50: 0.9, 99: 0.9}
    for step, value in expected.items():
        assert cubic_sparsity(step, 10, 50, final=0.9, initial=0.1) == pytest.approx(value, rel=1e-15)
    steps = [cubic_sparsity(step, 0, 100, final=0.8) for step in range(101)]
    gains = [after - before for before, after in pairwise(steps)]
    assert gains == sorted(gains, reverse=True)
    assert (steps[0], steps[-1]) == (0.0, 0.8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 5, "end": 5, "final": 0.5}, "end is 5; it must be after start, 5"),
        ({"start": 0, "end": 5, "final": 1.0}, "final is 1.0; from 0 to below 1"),
        ({"start": 0, "end": 5, "final": 0.5, "initial": -0.1}, "initial is -0.1"),
    ],
)
def test_a_schedule_that_cannot_be_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        cubic_sparsity(0, **arguments)


@pytest.mark.parametrize("choose", [magnitude_masks, global_magnitude_masks])
def test_weights_and_sparsities_that_cannot_be_ranked_are_errors(choose):
    with pytest.raises(ValueError, match="'a' holds NaN"):
        choose({"a": torch.tensor([1.0, float("nan")])}, 0.5)
    for share in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"sparsity is {share}; from 0 to below 1"):
            choose({"a": torch.ones(2)}, share)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


def test_weights_of_convolutions_and_linear_layers_are_chosen():
    assert list(prunable_weights(model())) == ["0.weight", "3.weight"]
    assert list(prunable_weights(nn.Linear(2, 2))) == ["weight"]


def test_a_masked_model_stays_sparse_in_training():
    network = model()
    masks = global_magnitude_masks(prunable_weights(network), 0.75)
    before = {name: weight.clone() for name, weight in prunable_weights(network).items()}
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(3):
        apply_masks(network, masks)
        network(torch.randn(4, 3, 4, 4)).square().sum().backward()
        optimizer.step()
    apply_masks(network, masks)
    assert sparsity(prunable_weights(network).values()) == int(0.75 * 188) / 188
    for name, weight in prunable_weights(network).items():
        assert not weight[~masks[name]].any()
        assert not torch.equal(weight[masks[name]], before[name][masks[name]])


def test_masks_that_do_not_fit_change_nothing():
    network = model()
    before = network[0].weight.clone()
    fitting = {"0.weight": torch.zeros(4, 3, 3, 3, dtype=torch.bool)}
    for masks, message in [
        ({"1.weights": torch.ones(4, dtype=torch.bool)}, "mask '1.weights': the model has no such parameter"),
        ({"3.weight": torch.ones(4, dtype=torch.bool)}, r"of shape \(4,\); torch.bool of shape \(5, 16\)"),
        ({"3.weight": torch.ones(5, 16)}, "is torch.float32 of shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            apply_masks(network, {**fitting, **masks})
    assert torch.equal(network[0].weight, before)


def test_sparsity_counts_zeros():
    assert sparsity([torch.tensor([0.0, 1.0]), torch.zeros(2, 3)]) == 7 / 8
    with pytest.raises(ValueError, match="no entry to count zeros of"):
        sparsity([])
