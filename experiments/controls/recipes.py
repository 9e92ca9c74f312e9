"""The recipes of the models that controls compare."""

from dataclasses import replace

from pytest_claims.recipes.recipe import Recipe, in_family

SHUFFLED = 0.25
"""Of the labels that a student learns from."""

TENTH = 24_700
"""Parameters, of the CNN's 247,179."""


def control_recipes(student: Recipe, distilled: Recipe, cnn: Recipe, pruned: Recipe) -> dict[str, Recipe]:
    """The recipes by name.

    Args:
        student: Trained from scratch.
        distilled: A student to be rounded.
        cnn: Of question 4, to be cut.
        pruned: The CNN with channels cut at random.
    """
    budget = student.budget
    if budget is None:
        raise ValueError("the student that controls are made from has no budget")
    one_epoch = replace(student, budget=replace(budget, epochs=1))
    rounded = Recipe(
        "experiments.controls.round_weights",
        distilled.architecture,
        "target",
        settings=(("bits", 2),),
        parents=(("original", distilled),),
    )
    cut = replace(pruned, settings=(("criterion", "random"), ("parameters", TENTH)), parents=(("original", cnn),))
    recipes = {
        "student-one-epoch": one_epoch,
        "student-mislabelled": replace(
            student, builder="experiments.controls.mislabel", settings=(("share", SHUFFLED),)
        ),
        "student-again": replace(student, builder="experiments.controls.repeat"),
        "student-rounded-2bit": rounded,
        "cnn-pruned-random-tenth": cut,
    }
    return in_family("control", recipes, intermediate=True)
