"""Low-rank factorization of the parent `original` to a budget of parameters, then fine-tuning."""

from compression.low_rank.uniform import factorize_to_budget
from experiments.builders.context import Built, Context, budget, parent_model, splits, trained
from experiments.training import cross_entropy, fit


def build(context: Context) -> Built:
    """The architecture's option `parameters` is the budget."""
    parameters = dict(context.recipe.architecture.options)["parameters"]
    model = factorize_to_budget(parent_model(context, "original"), int(str(parameters)))
    history = fit(model, *splits(context), budget(context), cross_entropy, context.seed, context.watcher)
    return trained(model, context, history)
