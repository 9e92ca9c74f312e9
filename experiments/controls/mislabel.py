"""Training from scratch on labels of which a share is wrong: what learning from labels must be hurt by."""

from dataclasses import replace

import torch
from torch import Tensor

from experiments.workbench.context import budget, fresh_model, setting, splits, trained
from pytest_claims.training.context import Built, Context
from pytest_claims.training.training import cross_entropy, fit, seeded_generator


def build(context: Context) -> Built:
    """Needs the setting `share`, of the training images whose labels are shuffled among them."""
    training, validation = splits(context)
    generator = seeded_generator(context.seed, "mislabelled")
    wrong = replace(training, labels=shuffled(training.labels, setting(context, "share", float), generator))
    model = fresh_model(context)
    history = fit(model, wrong, validation, budget(context), cross_entropy, context.seed, context.watcher)
    return trained(model, context, history)


def shuffled(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return labels (n,) of which a share, chosen at random, are put into a random order among themselves."""
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    order = torch.randperm(len(chosen), generator=generator)
    mixed = labels.clone()
    mixed[chosen] = labels[chosen[order]]
    return mixed
