import pytest
import torch
import torchvision
from hypothesis import given, settings
from random_graphs import draw_network, network_plans
from torch import nn

from compression.quantization.folding import fold_batch_norms


def count_norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@given(network_plans)
@settings(deadline=None, max_examples=30)
def test_outputs_stay_and_no_norm_does(plan):
    model, images = draw_network(plan)
    norms = count_norms(model)
    folded = fold_batch_norms(model)
    torch.testing.assert_close(folded.double()(images.double()), model.double()(images.double()), rtol=1e-4, atol=1e-4)
    assert count_norms(folded) == 0
    assert count_norms(model) == norms


def test_a_resnet18_has_all_its_norms_folded():
    model = torchvision.models.resnet18(num_classes=3).eval()
    folded = fold_batch_norms(model)
    images = torch.randn(1, 3, 32, 32)
    assert (count_norms(model), count_norms(folded)) == (20, 0)
    torch.testing.assert_close(folded(images), model(images), rtol=1e-4, atol=1e-5)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

    def forward(self, images):
        features = self.conv(images)
        return self.norm(features) + features


class Twice(Branching):
    def forward(self, images):
        return self.norm(self.conv(self.norm(self.conv(images))))


@pytest.mark.parametrize("kind", [Branching, Twice])
def test_a_norm_stays_where_folding_would_change_another_use(kind):
    model = kind()
    model(torch.randn(8, 1, 4, 4))
    model.eval()
    images = torch.randn(2, 1, 4, 4)
    folded = fold_batch_norms(model)
    assert count_norms(folded) == 1
    assert torch.equal(folded(images), model(images))


@pytest.mark.parametrize("frozen", [(), ("0.weight",), ("1.bias",), ("0.weight", "1.bias"), ("0.bias",)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_bias_is_trainable_if_what_it_is_made_of_was(frozen, biased):
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=biased), nn.BatchNorm2d(2)).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    folded = fold_batch_norms(model)
    assert folded[0].weight.requires_grad == ("0.weight" not in frozen)
    made_of = {"0.bias"} if biased else {"0.weight", "1.bias"}
    assert folded[0].bias.requires_grad == bool(made_of - set(frozen))


class Untraceable(nn.Module):
    def forward(self, images):
        return images if images.sum() > 0 else -images


@pytest.mark.parametrize(
    ("model", "message"),
    [(nn.Sequential(nn.BatchNorm2d(1)), "training mode"), (Untraceable().eval(), "can't be traced")],
)
def test_a_model_that_can_not_be_folded_is_an_error(model, message):
    with pytest.raises(ValueError, match=message):
        fold_batch_norms(model)
