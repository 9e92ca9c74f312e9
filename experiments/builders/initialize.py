"""An architecture without training: its size is what is asked for."""

from experiments.models import build_model
from experiments.workbench.context import built, cost, setting, state_on_cpu
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import seed_initialisation


def build(context: Context) -> Built:
    """Needs the settings `classes` and `resolution` (pixels, for the multiply-accumulates)."""
    seed_initialisation(context.seed)
    model = build_model(context.recipe.architecture, setting(context, "classes", int))
    resolution = setting(context, "resolution", int)
    return built(state_on_cpu(model), cost(model, resolution, resolution))
