import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.cost import parameter_count
from compression.low_rank.uniform import factorize_to_budget

properties = settings(deadline=None, max_examples=25)


def test_factorizing_draws_no_random_number():
    model = small_model()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    factorize_to_budget(model, parameter_count(model) // 2)
    assert torch.equal(torch.rand(1), expected)


def test_a_weight_that_is_not_finite_is_an_error_that_names_the_layer():
    model = small_model()
    with torch.no_grad():
        model[3].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"layer '3': the weight of Conv2d.* not finite"):
        factorize_to_budget(model, parameter_count(model) // 2)


def small_model(channels=(8, 12), features=20):
    return nn.Sequential(
        nn.Conv2d(3, channels[0], 3, padding=1),
        nn.BatchNorm2d(channels[0]),
        nn.ReLU(),
        nn.Conv2d(channels[0], channels[1], 3, padding=1),
        nn.Conv2d(channels[1], channels[1], 3, padding=1, groups=channels[1]),
        nn.Conv2d(channels[1], channels[1], 1, bias=False),
        nn.Flatten(),
        nn.Sequential(nn.Linear(channels[1] * 16, features), nn.ReLU(), nn.Linear(features, 5)),
    )


def full_ranks_by_hand(module):
    if not isinstance(module, nn.Linear | nn.Conv2d) or getattr(module, "groups", 1) != 1:
        return ()
    outputs, inputs, *kernel = module.weight.shape
    area = math.prod(kernel)
    return (min(outputs, inputs),) if area == 1 else (min(outputs, inputs * area), min(inputs, outputs * area))


def count_at(model, share):
    """Parameters at one share, summed layer by layer without the module's own arithmetic."""
    total = parameter_count(model)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            outputs, inputs, *kernel = layer.weight.shape
            area = math.prod(kernel)
            if area == 1:
                rank = max(1, math.floor(share * min(outputs, inputs) + 1e-9))
                low = rank * (outputs + inputs)
            else:
                out_rank = max(1, math.floor(share * min(outputs, inputs * area) + 1e-9))
                in_rank = max(1, math.floor(share * min(inputs, outputs * area) + 1e-9))
                low = in_rank * inputs + in_rank * out_rank * area + out_rank * outputs
            total += min(0, low - layer.weight.numel())
    return total


@given(st.tuples(st.integers(1, 10), st.integers(1, 10)), st.integers(1, 12), st.floats(0, 1.1))
@properties
def test_the_count_is_the_largest_that_one_share_gives_within_the_budget(channels, features, position):
    model = small_model(channels, features)
    fulls = {full for module in model.modules() for full in full_ranks_by_hand(module)}
    reachable = {count_at(model, rank / full) for full in fulls for rank in range(1, full + 1)}
    smallest = min(reachable)
    budget = smallest + round(position * (parameter_count(model) - smallest))
    built = factorize_to_budget(model, budget)
    assert parameter_count(built) == max(count for count in reachable if count <= budget)
    assert built(torch.zeros(2, 3, 4, 4)).shape == (2, 5)


def test_layers_that_would_not_get_smaller_stay_dense():
    model = small_model()
    built = factorize_to_budget(model, parameter_count(model) // 3)
    assert isinstance(built[3], nn.Sequential)
    assert isinstance(built[4], nn.Conv2d)
    assert parameter_count(built[0]) <= parameter_count(model[0])
    whole = factorize_to_budget(model, parameter_count(model))
    assert str(whole) == str(model)
    assert all(map(torch.equal, whole.parameters(), model.parameters()))
    assert not set(whole.parameters()) & set(model.parameters())


def test_ranks_depend_on_shapes_alone_so_weights_can_be_loaded_into_a_fresh_model():
    trained, fresh = small_model(), small_model()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(torch.rand_like(parameter) * 100)
    budget = parameter_count(trained) // 2
    compressed, rebuilt = factorize_to_budget(trained, budget), factorize_to_budget(fresh, budget)
    rebuilt.load_state_dict(compressed.state_dict())
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(rebuilt.eval()(images), compressed.eval()(images))


def test_skipped_layers_stay_dense():
    model = small_model()
    built = factorize_to_budget(model, 5_100, skip=("3", "7"))
    assert isinstance(built[3], nn.Conv2d)
    assert isinstance(built[7][0], nn.Linear)
    with pytest.raises(ValueError, match="skip names '8'"):
        factorize_to_budget(model, 5_100, skip=("3", "8"))


def test_a_skipped_name_is_no_prefix_of_another_layers():
    model = nn.ModuleDict({"fc": nn.Linear(20, 20), "fc2": nn.Linear(20, 20)})
    built = factorize_to_budget(model, 600, skip=("fc",))
    assert isinstance(built["fc"], nn.Linear)
    assert isinstance(built["fc2"], nn.Sequential)


def test_an_impossible_budget_is_an_error_with_the_smallest_count():
    model = small_model()
    smallest = count_at(model, 0.0)
    assert parameter_count(factorize_to_budget(model, smallest)) == smallest
    with pytest.raises(ValueError, match=f"budget of {smallest - 1} parameters is below {smallest}"):
        factorize_to_budget(model, smallest - 1)


def test_a_model_without_layers_to_factorize_is_judged_by_its_count():
    assert parameter_count(factorize_to_budget(nn.BatchNorm2d(3), 6)) == 6
    with pytest.raises(ValueError, match="budget of 5 parameters is below 6"):
        factorize_to_budget(nn.BatchNorm2d(3), 5)


def test_shared_layers_and_tied_weights_are_counted_as_they_are():
    shared = nn.Linear(20, 20)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    built = factorize_to_budget(model, 300)
    assert built[0] is built[2]
    assert parameter_count(built) == 7 * 40 + 20
    tied = nn.ModuleDict({"a": nn.Linear(20, 20), "b": nn.Linear(20, 20), "c": nn.Linear(20, 20)})
    tied["b"].weight = tied["a"].weight
    built = factorize_to_budget(tied, 700)
    assert built["a"].weight is built["b"].weight
    assert parameter_count(built) == (400 + 20 + 20) + (6 * 40 + 20)


@pytest.mark.parametrize("training", [True, False])
def test_attention_still_computes(training):
    # It uses the weights of its own Linear layers directly, which must not be replaced.
    model = nn.Sequential(nn.Linear(64, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Linear(16, 64))
    built = factorize_to_budget(model, parameter_count(model) - 1_000).train(training)
    assert isinstance(built[0], nn.Sequential)
    with torch.set_grad_enabled(training):
        assert built(torch.randn(2, 3, 64)).shape == (2, 3, 64)


def test_a_residual_network_is_cut_in_its_early_stages_alone():
    model = torchvision.models.resnet18(num_classes=11).eval()
    late = ("layer3", "layer4", "fc")
    kept = sum(parameter_count(model.get_submodule(name)) for name in late)
    budget = kept + (parameter_count(model) - kept) // 4
    built = factorize_to_budget(model, budget, skip=late)
    assert 0.97 * (budget - kept) < parameter_count(built) - kept <= budget - kept
    assert all(map(torch.equal, built.layer3.parameters(), model.layer3.parameters()))
    assert isinstance(built.layer2[0].downsample[0], nn.Sequential)
    with torch.no_grad():
        assert built(torch.randn(1, 3, 32, 32)).shape == (1, 11)
