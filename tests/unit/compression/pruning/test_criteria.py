import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import Residual, images, randomized
from torch import nn

from compression.pruning.criteria import (
    Scores,
    absolute_gamma,
    filter_norm,
    gamma_penalty,
    random_scores,
    relative_to_group,
    signed_gamma,
    taylor,
)
from compression.pruning.graph import channel_graph

SMALL = (3, 5, 5)


@pytest.fixture
def model():
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh())
    body = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Residual(inner), nn.Conv2d(4, 5, 1, bias=False), nn.Sigmoid()]
    return randomized(nn.Sequential(*body, nn.Flatten(), nn.Linear(5 * 25, 3)))


@pytest.fixture
def graph(model):
    return channel_graph(model, SMALL)


def test_signed_gamma_is_the_mean_over_the_groups_batch_norms(model, graph):
    scores = signed_gamma(model, graph)
    first, second = (norm.weight.detach().numpy() for norm in (model[1], model[2].inner[1]))
    np.testing.assert_allclose(scores.values["0"], (first + second) / 2, rtol=1e-15)
    assert scores.unscored == {"3": "no BatchNorm with a gamma for 5 of its 5 units"}


def test_absolute_gamma_forgets_the_sign(model, graph):
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([-9.0, 0.1, -0.2, 0.3]))
        model[2].inner[1].weight.copy_(torch.tensor([1.0, -0.1, 0.0, 0.5]))
    assert absolute_gamma(model, graph).values["0"].tolist() == pytest.approx([5.0, 0.1, 0.1, 0.4])
    assert signed_gamma(model, graph).values["0"].tolist() == pytest.approx([-4.0, 0.0, -0.1, 0.4])


@pytest.mark.parametrize("order", [1, 2])
def test_filter_norms_are_the_mean_over_the_groups_layers(model, graph, order):
    scores = filter_norm(model, graph, order).values

    def norm(weights):
        return sum(abs(weight) ** order for weight in weights) ** (1 / order)

    layers = (model[0].weight.tolist(), model[2].inner[0].weight.tolist())
    flat = [[[w for plane in filters for row in plane for w in row] for filters in layer] for layer in layers]
    expected = [(norm(one) + norm(other)) / 2 for one, other in zip(*flat, strict=True)]
    assert scores["0"].tolist() == pytest.approx(expected, rel=1e-14)
    assert scores["3"].tolist() == pytest.approx([norm(row) for row in model[3].weight.flatten(1).tolist()], rel=1e-14)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_transposed_convolutions_filters_lie_in_its_second_dimension(groups):
    transposed = nn.ConvTranspose2d(4, 8, 2, groups=groups)
    model = randomized(nn.Sequential(nn.Conv2d(3, 4, 1), transposed, nn.Conv2d(8, 2, 1)))
    graph = channel_graph(model, SMALL)
    # Channel o of the output sums over the inputs of its own group alone.
    impulses = torch.eye(4, dtype=torch.float64).view(4, 4, 1, 1)
    responses = F.conv_transpose2d(impulses, transposed.weight.detach(), groups=groups)
    filters = responses.square().sum((0, 2, 3)).sqrt()
    channels = graph.layers["1"].outputs
    for name, values in filter_norm(model, graph, 2).values.items():
        group = graph.group(name)
        firsts = torch.linalg.vector_norm(model[0].weight.detach().flatten(1), dim=1)
        for unit, value in zip(group.units, values.tolist(), strict=True):
            own = [filters[channels == unit]] if "1" in group.layers else []
            own += [firsts[graph.layers["0"].outputs == unit]] if "0" in group.layers else []
            assert value == pytest.approx(float(torch.cat(own).mean()), rel=1e-14)


def batches(count=3):
    return [(images((4, *SMALL), seed=seed), torch.tensor([0, 1, 2, 1])) for seed in range(count)]


def test_taylor_is_the_squared_slope_of_a_gate_where_the_group_ends(model, graph):
    scores = taylor(model, graph, batches(), F.cross_entropy)
    expected = {"0": [], "3": []}
    for inputs, targets in batches():
        first, second = (torch.ones(count, dtype=torch.float64, requires_grad=True) for count in (4, 5))
        hidden = model[2](model[1](model[0](inputs)))
        # The residual's inner convolution reads the first group, too.
        inner = model[1](model[0](inputs))
        hidden = inner + model[2].inner(inner * first.view(1, -1, 1, 1))
        last = model[4](model[3](hidden * first.view(1, -1, 1, 1))) * second.view(1, -1, 1, 1)
        loss = F.cross_entropy(model[6](last.flatten(1)), targets)
        for name, slope in zip(expected, torch.autograd.grad(loss, (first, second)), strict=True):
            expected[name].append(slope.square())
    for name, squares in expected.items():
        np.testing.assert_allclose(scores.values[name], torch.stack(squares).mean(0), rtol=1e-12)
        assert (scores.values[name] > 0).all()


def test_taylor_foretells_the_change_of_the_loss_for_a_channel_that_hardly_matters(model, graph):
    unit = 2
    with torch.no_grad():
        model[6].weight[:, 25 * unit : 25 * (unit + 1)] *= 1e-5
    (batch,) = batches(1)
    score = float(taylor(model, graph, [batch], F.cross_entropy).values["3"][unit])
    with torch.no_grad():
        before = float(F.cross_entropy(model(batch[0]), batch[1]))
        model[6].weight[:, 25 * unit : 25 * (unit + 1)] = 0
        change = float(F.cross_entropy(model(batch[0]), batch[1])) - before
    assert abs(change) == pytest.approx(math.sqrt(score), rel=1e-3)


def test_taylor_leaves_the_model_as_it_is(model, graph):
    model.train()
    model[2].eval()
    model[0].weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    taylor(model, graph, batches(), F.cross_entropy)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())


def test_taylor_computes_its_gradients_also_where_none_are_recorded(model, graph):
    expected = taylor(model, graph, batches(), F.cross_entropy).values
    with torch.no_grad():
        scores = taylor(model, graph, batches(), F.cross_entropy).values
    assert all(torch.equal(scores[name], values) for name, values in expected.items())


def test_taylor_needs_a_batch(model, graph):
    with pytest.raises(ValueError, match="no batch to compute gradients on"):
        taylor(model, graph, [], F.cross_entropy)


def test_random_scores_are_the_seeds(graph):
    torch.manual_seed(0)
    first = random_scores(graph, 5).values
    torch.manual_seed(1)
    assert all(torch.equal(values, first[name]) for name, values in random_scores(graph, 5).values.items())
    assert not torch.equal(random_scores(graph, 6).values["0"], first["0"])
    assert {name: len(values) for name, values in first.items()} == {"0": 4, "3": 5}


def test_relative_scores_have_mean_magnitude_one_and_the_same_order():
    scores = Scores({"a": torch.tensor([1.0, -3.0]).double(), "b": torch.zeros(3).double()}, {"c": "why"})
    relative = relative_to_group(scores)
    assert relative.values["a"].tolist() == [0.5, -1.5]
    assert relative.values["b"].tolist() == [0, 0, 0]
    assert relative.unscored == {"c": "why"}


@pytest.mark.parametrize("values", [torch.tensor([1.0, float("nan")]), torch.ones(2, 2)])
def test_scores_that_cannot_be_ranked_are_an_error(values):
    with pytest.raises(ValueError, match=r"group 'a': scores of shape .* must be one-dimensional, no NaN"):
        Scores({"a": values}, {})


def test_a_weight_that_is_no_number_names_its_group(model, graph):
    with torch.no_grad():
        model[3].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="group '3': scores"):
        filter_norm(model, graph, 2)


def with_gammas():
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.GroupNorm(1, 4)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.BatchNorm1d(4))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([-2.0, 0.0, 0.5, 1.0]))
        network[5].weight.copy_(torch.tensor([0.25, -0.25, 0.0, 0.0]))
    return network


def test_the_gamma_penalty_is_the_sum_of_the_magnitudes_of_batch_norms_gammas():
    assert gamma_penalty(with_gammas()).item() == 4.0


def test_the_gamma_penaltys_gradient_is_the_sign_and_zero_at_zero():
    network = with_gammas()
    gamma_penalty(network).backward()
    assert network[1].weight.grad.tolist() == [-1, 0, 1, 1]
    assert network[5].weight.grad.tolist() == [1, -1, 0, 0]
    assert network[0].weight.grad is None
    assert network[3].weight.grad is None


def test_the_gamma_penalty_added_to_a_loss_draws_gammas_to_zero():
    torch.manual_seed(0)
    network = with_gammas().train()
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    inputs, targets = torch.randn(16, 3, 1, 1), torch.randn(16, 4)

    def trained(weight):
        for _ in range(60):
            optimizer.zero_grad()
            (nn.functional.mse_loss(network(inputs), targets) + weight * gamma_penalty(network)).backward()
            optimizer.step()
        return gamma_penalty(network).item()

    assert trained(1.0) < 0.3 < trained(0.0)


def test_a_model_without_gammas_has_no_gamma_penalty():
    with pytest.raises(ValueError, match="Sequential has no BatchNorm layer with a gamma"):
        gamma_penalty(nn.Sequential(nn.BatchNorm2d(3, affine=False)))
