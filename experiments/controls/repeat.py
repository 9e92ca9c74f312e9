"""Training from scratch once more: the same images, and another seed's initialisation, order and augmentation."""

from dataclasses import replace

from experiments.builders import train
from pytest_claims.training.context import Built, Context

_APART = 1_000_000
"""From a seed to the one whose random numbers are taken; no profile has so many."""


def build(context: Context) -> Built:
    """Trains as `experiments.builders.train` does."""
    return train.build(replace(context, seed=context.seed + _APART))
