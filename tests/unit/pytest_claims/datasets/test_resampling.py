from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.datasets.dataset import Dataset, Split
from pytest_claims.datasets.resampling import resampled

SEEDS = st.integers(0, 2**32)


@st.composite
def datasets(draw):
    classes = draw(st.integers(1, 3))
    labels = [draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=12)) for _ in range(2)]
    numbers = iter(range(sum(map(len, labels))))
    splits = [Split(np.array([[[[next(numbers)]]] for _ in each], np.uint8), np.array(each)) for each in labels]
    return Dataset(tuple("abc"[:classes]), *splits)


def pairs(split):
    return list(zip(split.images.ravel().tolist(), split.labels.tolist(), strict=True))


@settings(deadline=None)
@given(datasets(), SEEDS)
def test_every_image_keeps_its_label_and_every_split_its_counts(dataset, seed):
    divided = resampled(dataset, seed)
    before, after = ([pair for s in (d.training, d.validation) for pair in pairs(s)] for d in (dataset, divided))
    assert Counter(before) == Counter(after)
    for name in ("training", "validation"):
        was, found = (Counter(getattr(each, name).labels.tolist()) for each in (dataset, divided))
        assert was == found


@settings(deadline=None)
@given(datasets(), SEEDS)
def test_the_same_seed_divides_alike(dataset, seed):
    first, second = resampled(dataset, seed), resampled(dataset, seed)
    assert pairs(first.training) == pairs(second.training)
    assert pairs(first.validation) == pairs(second.validation)


def test_each_image_is_as_often_learned_from_as_its_class_has_training_images():
    split = Split(np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), np.array([0, 0, 0, 0, 1, 1]))
    other = Split(np.arange(6, 9, dtype=np.uint8).reshape(3, 1, 1, 1), np.array([0, 0, 1]))
    dataset = Dataset(("a", "b"), split, other)
    trained = Counter(image for seed in range(1000) for image, _ in pairs(resampled(dataset, seed).training))
    shares = [trained[image] / 1000 for image in range(9)]
    # Four of class a's six images, two of class b's three; five standard deviations.
    assert np.abs(np.array(shares) - 2 / 3).max() < 5 * (2 / 9 / 1000) ** 0.5


def test_a_division_never_changes():
    split = Split(np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1), np.zeros(8, np.int64))
    divided = resampled(Dataset(("a",), split, Split(split.images + np.uint8(8), split.labels)), 3)
    assert pairs(divided.training) == PINNED


PINNED = [(image, 0) for image in (0, 1, 4, 5, 7, 9, 10, 12)]
