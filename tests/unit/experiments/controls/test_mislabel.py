import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.controls.mislabel import shuffled
from pytest_claims.recipes.recipe import Architecture, Recipe

ARCHITECTURE = Architecture("experiments.models.student", (("widths", (4, 4, 8, 12, 10, 9, 8, 8)),))


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.floats(0, 1), st.integers(0, 2**32))
def test_labels_are_shuffled_among_a_share_of_the_images(labels, share, seed):
    given_labels = torch.tensor(labels)
    mixed = shuffled(given_labels, share, torch.Generator().manual_seed(seed))
    assert sorted(mixed.tolist()) == sorted(labels)
    assert int((mixed != given_labels).sum()) <= round(share * len(labels))
    assert given_labels.tolist() == labels


def test_a_quarter_of_many_different_labels_is_wrong_but_for_those_that_come_back():
    labels = torch.arange(4000)
    wrong = int((shuffled(labels, 0.25, torch.Generator().manual_seed(0)) != labels).sum())
    # A random order of a thousand leaves one in its place in the mean.
    assert 990 <= wrong <= 1000


def test_a_student_learns_from_wrong_labels_and_is_measured_on_right_ones(run, check_training, budget):
    settings_of = (("share", 0.25),)
    mislabelled = run(Recipe("experiments.controls.mislabel", ARCHITECTURE, "target", budget, settings_of))
    plain = run(Recipe("experiments.builders.train", ARCHITECTURE, "target", budget))
    check_training(mislabelled)
    assert mislabelled.built.history[0].loss != plain.built.history[0].loss


def test_without_wrong_labels_it_is_plain_training(run, budget):
    none = run(Recipe("experiments.controls.mislabel", ARCHITECTURE, "target", budget, (("share", 0.0),)))
    plain = run(Recipe("experiments.builders.train", ARCHITECTURE, "target", budget))
    assert none.built.history == plain.built.history
