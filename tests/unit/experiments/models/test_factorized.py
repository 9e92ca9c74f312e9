import pytest
import torch
from torch import nn

from compression.cost import parameter_count
from compression.low_rank.uniform import factorize_to_budget
from experiments.models import factorized, question4


def trained_stand_in(classes, parameters):
    """Question 4's ordinary CNN with weights of another spectrum than fresh ones have."""
    torch.manual_seed(5)
    model = question4.build(classes, "ordinary", parameters)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize(("parameters", "original"), [(3_000, 6_000), (6_000, 20_000), (20_000, 20_000)])
def test_a_rebuilt_model_takes_the_state_of_a_factorized_one(parameters, original):
    compressed = factorize_to_budget(trained_stand_in(3, original), parameters)
    rebuilt = factorized.build(3, parameters, original).eval()
    rebuilt.load_state_dict(compressed.state_dict())
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(rebuilt(images), compressed(images))
    assert parameter_count(rebuilt) <= parameters


def test_a_budget_below_rank_one_is_told():
    with pytest.raises(ValueError, match="budget of 100 parameters is below"):
        factorized.build(3, 100, 6_000)
