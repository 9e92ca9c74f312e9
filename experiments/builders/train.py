"""Training from scratch, or fine-tuning of the parent `initial`."""

from torch import nn

from compression.packing.state_file import load_state_dict
from experiments.workbench.context import budget, fresh_model, splits, trained
from pytest_claims.training.context import Built, Context, Parent
from pytest_claims.training.training import cross_entropy, fit

HEAD = "fc."
"""ResNet18's classifier: another task's is left out."""


def build(context: Context) -> Built:
    """Trains with cross-entropy for the recipe's budget."""
    model = fresh_model(context)
    if "initial" in context.parents:
        transfer(context.parents["initial"], model)
    history = fit(model, *splits(context), budget(context), cross_entropy, context.seed, context.watcher)
    return trained(model, context, history)


def transfer(parent: Parent, model: nn.Module) -> None:
    """Copies the parent's weights but its head; layers that it lacks keep the run's own initialisation.

    Raises:
        ValueError: The parent has a tensor that the model lacks, or of another shape.
    """
    given = {k: v for k, v in load_state_dict(parent.weights).items() if not k.startswith(HEAD)}
    own = model.state_dict()
    for name, value in given.items():
        if name not in own or own[name].shape != value.shape:
            there = list(own[name].shape) if name in own else "missing"
            raise ValueError(f"pre-trained tensor {name!r} has shape {list(value.shape)}; the model's is {there}")
    model.load_state_dict({**own, **given})
