"""A model of another family, factorized to a budget of parameters; see `compression.low_rank.uniform`."""

from torch import nn

from compression.low_rank.uniform import factorize_to_budget
from experiments.models import question4


def build(classes: int, parameters: int, original_parameters: int) -> nn.Module:
    """Builds question 4's ordinary CNN of `original_parameters`, factorized to at most `parameters`.

    The ranks depend on shapes alone, so a stored state dict fits whatever weights were factorized.
    """
    return factorize_to_budget(question4.build(classes, "ordinary", original_parameters), parameters)
