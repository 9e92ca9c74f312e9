import pytest
import torch
from torch import nn

from compression.pruning.slimming import gamma_penalty


def model():
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.GroupNorm(1, 4)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.BatchNorm1d(4))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([-2.0, 0.0, 0.5, 1.0]))
        network[5].weight.copy_(torch.tensor([0.25, -0.25, 0.0, 0.0]))
    return network


def test_it_is_the_sum_of_the_magnitudes_of_batch_norms_gammas():
    assert gamma_penalty(model()).item() == 4.0


def test_its_gradient_is_the_sign_and_zero_at_zero():
    network = model()
    gamma_penalty(network).backward()
    assert network[1].weight.grad.tolist() == [-1, 0, 1, 1]
    assert network[5].weight.grad.tolist() == [1, -1, 0, 0]
    assert network[0].weight.grad is None
    assert network[3].weight.grad is None


def test_added_to_a_loss_it_draws_gammas_to_zero():
    torch.manual_seed(0)
    network = model().train()
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    inputs, targets = torch.randn(16, 3, 1, 1), torch.randn(16, 4)

    def trained(weight):
        for _ in range(60):
            optimizer.zero_grad()
            (nn.functional.mse_loss(network(inputs), targets) + weight * gamma_penalty(network)).backward()
            optimizer.step()
        return gamma_penalty(network).item()

    assert trained(1.0) < 0.3 < trained(0.0)


def test_a_model_without_gammas_is_an_error():
    with pytest.raises(ValueError, match="Sequential has no BatchNorm layer with a gamma"):
        gamma_penalty(nn.Sequential(nn.BatchNorm2d(3, affine=False)))
