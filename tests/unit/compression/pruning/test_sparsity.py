from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from compression.pruning.sparsity import (
    apply_masks,
    cubic_sparsity,
    global_magnitude_masks,
    magnitude_masks,
    n_m_masks,
    prunable_weights,
    sparsity,
)

properties = settings(deadline=None, max_examples=30)
numbers = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.5]) | st.floats(-1, 1), min_size=1, max_size=30)


@given(numbers, st.floats(0, 0.99))
@properties
def test_the_smallest_magnitudes_of_each_tensor_go(values, share):
    weight = torch.tensor(values, dtype=torch.float64)
    masks = magnitude_masks({"a": weight, "b": weight * 100}, share)
    count = int(share * len(values))
    expected = sorted(sorted(range(len(values)), key=lambda i: (abs(values[i]), i))[:count])
    for name in ("a", "b"):
        assert (~masks[name]).nonzero().flatten().tolist() == expected


@given(numbers, numbers, st.floats(0, 0.99))
@properties
def test_globally_the_smallest_of_all_tensors_go(first, second, share):
    weights = {"a": torch.tensor(first, dtype=torch.float64), "b": torch.tensor([second], dtype=torch.float64)}
    masks = global_magnitude_masks(weights, share)
    both = first + second
    count = int(share * len(both))
    expected = sorted(sorted(range(len(both)), key=lambda i: (abs(both[i]), i))[:count])
    assert masks["b"].shape == (1, len(second))
    assert (~torch.cat([masks["a"], masks["b"][0]])).nonzero().flatten().tolist() == expected


@given(st.integers(0, 2**31), st.sampled_from([(2, 4), (1, 4), (4, 8), (3, 3)]), st.sampled_from([(), (3, 3)]))
@properties
def test_of_every_m_inputs_the_n_largest_stay(seed, pattern, kernel):
    n, m = pattern
    weight = torch.randn(5, 24, *kernel, generator=torch.Generator().manual_seed(seed))
    kept = n_m_masks({"a": weight}, n, m)["a"]
    assert kept.shape == weight.shape
    for block in range(24 // m):
        part, flags = (tensor[:, block * m : (block + 1) * m].movedim(1, -1) for tensor in (weight.abs(), kept))
        assert (flags.sum(-1) == n).all()
        worst_kept = part.masked_fill(~flags, float("inf")).amin(-1)
        assert (part.masked_fill(flags, 0).amax(-1) <= worst_kept).all()


def test_torch_drops_the_same_weights():
    layers = [nn.Linear(16, 5), nn.Conv2d(3, 4, 3)]
    weights = {str(place): layer.weight.detach().clone() for place, layer in enumerate(layers)}
    ours = global_magnitude_masks(weights, 0.6)
    prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=int(0.6 * 188))
    for place, layer in enumerate(layers):
        assert torch.equal(ours[str(place)], layer.weight_mask.bool())


def test_without_arguments_the_pattern_is_two_of_four_and_of_equal_ones_the_first_stay():
    tied = n_m_masks({"a": torch.ones(1, 8)})["a"]
    assert tied.tolist() == [[True, True, False, False] * 2]


@pytest.mark.parametrize(
    ("shape", "pattern", "message"),
    [
        ((4, 3, 3, 3), (2, 4), r"'a' has shape \(4, 3, 3, 3\); dimension 1 must be a multiple of 4"),
        ((8,), (2, 4), r"'a' has shape \(8,\)"),
        ((4, 4), (0, 4), "n is 0 and m 4; n must be from 1 to m"),
        ((4, 4), (5, 4), "n is 5 and m 4"),
    ],
)
def test_a_pattern_that_does_not_fit_names_the_tensor(shape, pattern, message):
    with pytest.raises(ValueError, match=message):
        n_m_masks({"a": torch.ones(shape)}, *pattern)


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
