import copy

import numpy as np
import pytest
import torch
from torch import nn

from compression.layers.batch_norm import reestimate_batch_norm


def batches(count=4, shape=(8, 3, 5, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) * (i + 1) + i for i in range(count)]


def plain_average(arrays):
    """Average over batches of the channels' mean and unbiased variance, in float64."""
    channels = [array.astype(np.float64).swapaxes(0, 1).reshape(array.shape[1], -1) for array in arrays]
    means = np.mean([channel.mean(axis=1) for channel in channels], axis=0)
    return means, np.mean([channel.var(axis=1, ddof=1) for channel in channels], axis=0)


def test_statistics_are_the_plain_average_over_the_batches():
    norm = nn.BatchNorm2d(3)
    norm(torch.randn(4, 3, 2, 2) + 100)
    data = batches()
    reestimate_batch_norm(norm, iter(data))
    mean, variance = plain_average([batch.numpy() for batch in data])
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-5)
    assert norm.num_batches_tracked == 4


def test_a_later_layer_sees_outputs_normalized_by_the_batch():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.ReLU(), nn.BatchNorm1d(2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([2.0, 0.5]))
        model[0].bias.copy_(torch.tensor([1.0, -0.2]))
    data = [batch.double() for batch in batches(3, (16, 2))]
    reestimate_batch_norm(model, data)
    arrays = [batch.numpy() for batch in data]
    hidden = [np.maximum((a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5) * [2.0, 0.5] + [1.0, -0.2], 0) for a in arrays]
    mean, variance = plain_average(hidden)
    np.testing.assert_allclose(model[2].running_mean.numpy(), mean, rtol=1e-7)
    np.testing.assert_allclose(model[2].running_var.numpy(), variance, rtol=1e-7)


def test_dropout_is_off():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3))
    reestimate_batch_norm(model, batches())
    mean, _ = plain_average([batch.numpy() for batch in batches()])
    np.testing.assert_allclose(model[1].running_mean.numpy(), mean, rtol=1e-5)


def mixed_model():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(), nn.BatchNorm2d(4, momentum=None)
    )
    model[1].eval()
    model[2].eval()
    return model


@pytest.mark.parametrize("fails", [False, True])
def test_weights_momenta_and_flags_stay_as_they_were(fails):
    model = mixed_model()
    weights = [parameter.clone() for parameter in model.parameters()]
    flags = [module.training for module in model.modules()]
    if fails:
        with pytest.raises(RuntimeError, match="channels"):
            reestimate_batch_norm(model, [*batches(1), torch.zeros(2, 7, 5, 5)])
    else:
        reestimate_batch_norm(model, batches())
    assert [module.training for module in model.modules()] == flags
    assert (model[1].momentum, model[3].momentum) == (0.3, None)
    assert all(map(torch.equal, model.parameters(), weights))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_graph_is_built():
    seen = []
    model = mixed_model()
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    reestimate_batch_norm(model, batches(2))
    assert seen == [False, False]


def test_the_old_statistics_do_not_matter():
    first, second = mixed_model(), mixed_model()
    second.load_state_dict(first.state_dict())
    second[1].running_mean.fill_(50)
    second[3].running_var.fill_(50)
    for model in (first, second):
        reestimate_batch_norm(model, batches())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


class WithAuxiliaryHead(nn.Module):
    """Runs its head in training mode only, as GoogLeNet does."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images):
        features = self.body(images)
        return (features, self.head(features)) if self.training else features


@pytest.mark.parametrize("fails", [False, True])
def test_statistics_of_a_layer_that_does_not_run_stay_as_they_were(fails):
    model = WithAuxiliaryHead()
    for data in batches(2):
        model(data)
    before = copy.deepcopy(model.head.state_dict())
    assert before["num_batches_tracked"] == 2
    alone = nn.BatchNorm2d(3)
    reestimate_batch_norm(alone, batches())
    if fails:
        with pytest.raises(RuntimeError):
            reestimate_batch_norm(model, [torch.zeros(2, 7, 5, 5)])
    else:
        reestimate_batch_norm(model, batches())
        assert all(map(torch.equal, model.body.buffers(), alone.buffers()))
    assert all(torch.equal(value, before[name]) for name, value in model.head.state_dict().items())


def test_no_batch_is_an_error_and_changes_nothing():
    model = mixed_model()
    model[1].running_mean.fill_(3)
    with pytest.raises(ValueError, match="no batch to re-estimate"):
        reestimate_batch_norm(model, iter([]))
    assert (model[1].running_mean == 3).all()


@pytest.mark.parametrize("layer", [nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)])
def test_a_model_without_statistics_is_an_error(layer):
    with pytest.raises(ValueError, match="no BatchNorm layer with running statistics"):
        reestimate_batch_norm(nn.Sequential(layer), [torch.zeros(2, 3)])
