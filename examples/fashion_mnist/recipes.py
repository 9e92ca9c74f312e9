from torch import nn

from pytest_claims import measure, recipe


def lenet_of(width, classes):
    return nn.Sequential(
        *(nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(50 * width, classes)),
    )


@recipe
def lenet(run):
    return run.fit(lenet_of(16, run.classes), epochs=8, learning_rate=0.05)


@recipe
def lenet_half(run):
    return run.fit(lenet_of(8, run.classes), epochs=8, learning_rate=0.05)


@recipe
def lenet_rounded(run, lenet):
    for parameter in lenet.parameters():
        parameter.data = (parameter / parameter.abs().max() * 7).round() * parameter.abs().max() / 7
    return lenet


@measure(unit="F1", better="more")
def macro_f1(model, split):
    guesses, labels = split.outputs(model).argmax(1), split.labels
    hits = [((guesses == c) & (labels == c)).sum() for c in labels.unique()]
    sizes = [(guesses == c).sum() + (labels == c).sum() for c in labels.unique()]
    return sum(2 * hit / size for hit, size in zip(hits, sizes, strict=True)) / len(hits)
