"""The recipes of our own claims: methods of compression at equal size, on question 4's ordinary CNN, and packed models.

Each step is a run of its own; so a model is also measured right after it is cut, factorized, rewritten or rounded:
`cnn-pruned-taylor` is that, its BN statistics estimated anew, and `cnn-pruned-taylor-tuned` is what fine-tuning makes
of it.
"""

from dataclasses import replace

from experiments.profiles import Budgets, Distillation
from pytest_claims.recipes.recipe import Budget, Recipe, Settings, in_family

COMPRESSED = "compressed CNN"
"""The family of all models that are made from question 4's ordinary CNN."""

CRITERIA = ("random", "signed-gamma", "filter-norm", "taylor")
"""See `experiments.builders.prune`."""

RANKS = ("uniform", "allocated")
"""See `experiments.builders.factorize`."""

SIXTEENTH = 14_500
"""Parameters of which the float32 file takes a sixteenth of the CNN's, names and BN statistics included."""

COMPOSED = 96_000
"""Parameters of which the same holds at five bits a weight."""

RECOVERY = Distillation(temperature=4.0, alpha=0.5)
"""How a cut network learns from what it was cut from; set on seeds 100 and 101 (alpha 0.9: 78.7 %, 0.5: 80.0 %)."""


def method_recipes(budgets: Budgets, cnn: Recipe, teacher: Recipe, student: Recipe, half: int) -> dict[str, Recipe]:
    """The recipes by name.

    Args:
        budgets: Of the steps, `recover` and `slim`.
        cnn: The trained CNN that is compressed.
        teacher: The fine-tuned ResNet18, to be packed.
        student: The student distilled from it, to be packed.
        half: Parameters to compress the CNN to.
    """
    steps = _Steps(budgets)
    recipes = _at_half(steps, cnn, half) | _at_a_sixteenth(steps, cnn)
    taught = steps.taught(recipes["cnn-pruned-signed-gamma"], cnn)
    composed = steps.low_rank(taught, "allocated", COMPOSED)
    recipes |= in_family(COMPRESSED, {"cnn-pruned-signed-gamma-taught": taught, "cnn-composed": composed})
    packed = {
        "cnn-2bit-tuned": steps.quantization_aware(cnn, bits=2),
        "cnn-composed-packed": steps.packed(composed, bits=5),
        "teacher-packed": steps.packed(teacher, bits=4),
        "student-packed": steps.packed(student, bits=8),
    }
    return recipes | in_family("quantized", packed)


class _Steps:
    """One recipe a step, each made from the model before it."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    def pruned(self, model: Recipe, criterion: str, parameters: int) -> Recipe:
        return self._untrained("prune", model, (("criterion", criterion), ("parameters", parameters)))

    def low_rank(self, model: Recipe, ranks: str, parameters: int) -> Recipe:
        return self._untrained("factorize", model, (("ranks", ranks), ("parameters", parameters)))

    def rewritten(self, model: Recipe, groups: int, weights: str) -> Recipe:
        return self._untrained("rewrite", model, (("groups", groups), ("weights", weights)))

    def packed(self, model: Recipe, bits: int) -> Recipe:
        return self._untrained("quantize_weights", model, (("bits", bits),))

    def tuned(self, model: Recipe) -> Recipe:
        return self._step("finetune", model, self._budgets.recover)

    def taught(self, model: Recipe, teacher: Recipe) -> Recipe:
        recipe = self._step("finetune", model, self._budgets.recover, tuple(vars(RECOVERY).items()))
        return replace(recipe, parents=(*recipe.parents, ("teacher", teacher)))

    def quantization_aware(self, model: Recipe, bits: int) -> Recipe:
        return self._step("quantize_aware", model, self._budgets.recover, (("bits", bits),))

    def _untrained(self, operation: str, model: Recipe, settings: Settings) -> Recipe:
        return self._step(operation, model, self._budgets.slim, settings)

    def _step(self, operation: str, model: Recipe, budget: Budget, settings: Settings = ()) -> Recipe:
        return Recipe(
            f"experiments.builders.{operation}", model.architecture, "target", budget, settings, (("original", model),)
        )


def _at_half(steps: _Steps, cnn: Recipe, parameters: int) -> dict[str, Recipe]:
    models = {f"cnn-pruned-{criterion}": steps.pruned(cnn, criterion, parameters) for criterion in CRITERIA}
    models |= {f"cnn-low-rank-{ranks}": steps.low_rank(cnn, ranks, parameters) for ranks in RANKS}
    for weights in ("fitted", "random"):
        models[f"cnn-grouped-{weights}"] = steps.rewritten(cnn, 2, weights)
        models[f"cnn-separable-{weights}"] = steps.rewritten(cnn, 0, weights)
    tuned = {f"{name}-tuned": steps.tuned(model) for name, model in models.items()}
    by_chance = {name: model for name, model in tuned.items() if "random" in name}
    return {
        **in_family(COMPRESSED, models, intermediate=True),
        **in_family(COMPRESSED, tuned),
        **in_family(COMPRESSED, by_chance, intermediate=True),
    }


def _at_a_sixteenth(steps: _Steps, cnn: Recipe) -> dict[str, Recipe]:
    pruned = steps.pruned(cnn, "signed-gamma", SIXTEENTH)
    low_rank = steps.low_rank(cnn, "allocated", SIXTEENTH)
    cut = {"cnn-pruned-sixteenth": pruned, "cnn-low-rank-sixteenth": low_rank}
    tuned = {f"{name}-tuned": steps.tuned(model) for name, model in cut.items()}
    return in_family(COMPRESSED, cut, intermediate=True) | in_family(COMPRESSED, tuned)
