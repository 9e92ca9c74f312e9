"""The models that the claims are about: a function each. Its arguments after `run` are the models it is made from."""

from torch import nn

from pytest_claims import measure, recipe


def network(width, run):
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(run.channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, run.classes),
    )


@recipe
def wide(run):
    """A network, trained."""
    return run.fit(network(32, run), epochs=10, learning_rate=0.05, batch_size=16)


@recipe
def narrow(run):
    """The same with a quarter of the channels."""
    return run.fit(network(8, run), epochs=10, learning_rate=0.05, batch_size=16)


@recipe
def wide_tuned(run, wide):
    """The wide network, trained on."""
    return run.fit(wide, epochs=4, learning_rate=0.005, batch_size=16)


@measure(unit="%", better="more", decimals=2)
def top2(model, split):
    """How often the right class is among the first two."""
    first = split.outputs(model).topk(2, dim=1).indices
    return 100 * (first == split.labels[:, None]).any(1).float().mean()
