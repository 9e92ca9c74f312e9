"""Training of the parent `original`, compressed or not, with labels or as the student of the parent `teacher`."""

from experiments.workbench.compressed import finetuned, original
from experiments.workbench.context import splits
from experiments.workbench.teaching import distillation_from_teacher
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import cross_entropy


def build(context: Context) -> Built:
    """With a teacher, needs the settings of `experiments.workbench.teaching`."""
    training, _ = splits(context)
    taught = "teacher" in context.parents
    objective = distillation_from_teacher(context, training) if taught else cross_entropy
    return finetuned(original(context), context, objective)
