from pytest_claims.recipes.recipe import Architecture, Recipe

ARCHITECTURE = Architecture("experiments.models.student", (("widths", (4, 4, 8, 12, 10, 9, 8, 8)),))


def test_a_repetition_is_the_training_of_another_seed_on_the_same_images(run, check_training, budget):
    again = run(Recipe("experiments.controls.repeat", ARCHITECTURE, "target", budget), seed=3)
    plain = Recipe("experiments.builders.train", ARCHITECTURE, "target", budget)
    check_training(again)
    assert again.built.history == run(plain, seed=1_000_003).built.history
    assert again.built.history != run(plain, seed=3).built.history
