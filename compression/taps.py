"""What given layers of a model take and give while it runs, without a trace on the model.

A student that imitates its teacher's features:

    with torch.no_grad(), tapped(teacher, ["layer3"]) as answers:
        teacher(images)
    with tapped(student, ["blocks.5"]) as features:
        logits = student(images)
    loss = attention_transfer(features.output("blocks.5"), answers.output("layer3"))
    loss.backward()
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Run:
    """One call of a layer: its first input and its output, None for what is no tensor."""

    input: Tensor | None
    output: Tensor | None


class Taps:
    """What the layers did in the model's last forward pass."""

    def __init__(self, names: Iterable[str]) -> None:
        self._runs: dict[str, list[Run]] = {name: [] for name in names}
        self._taken: dict[str, Tensor | None] = {}

    def output(self, name: str) -> Tensor:
        """Return the output of a layer that ran once.

        Raises:
            ValueError: If the layer isn't tapped, ran not at all or several times, or gave no tensor.
        """
        return _tensor(name, "gave", self._only_run(name).output)

    def input(self, name: str) -> Tensor:
        """Return the first input of a layer that ran once.

        Raises:
            ValueError: As `output`.
        """
        return _tensor(name, "took", self._only_run(name).input)

    def runs(self, name: str) -> tuple[Run, ...]:
        """Return all calls of a layer, in order.

        Raises:
            ValueError: If the layer isn't tapped.
        """
        if name not in self._runs:
            raise ValueError(f"layer {name!r} is not tapped; {sorted(self._runs)} are")
        return tuple(self._runs[name])

    def _only_run(self, name: str) -> Run:
        runs = self.runs(name)
        if len(runs) != 1:
            raise ValueError(f"layer {name!r} ran {len(runs)} times in the last forward pass; once is needed")
        return runs[0]

    def _start(self) -> None:
        for runs in self._runs.values():
            runs.clear()

    def _take(self, name: str, inputs: tuple[object, ...]) -> None:
        self._taken[name] = _copied(inputs[0] if inputs else None)

    def _give(self, name: str, output: object) -> None:
        self._runs[name].append(Run(self._taken.pop(name), _copied(output)))


def _copied(value: object) -> Tensor | None:
    # A copy: an in-place activation that follows, or that is the layer itself, would overwrite it.
    return value.clone() if isinstance(value, Tensor) else None


def _tensor(name: str, verb: str, value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError(f"layer {name!r} {verb} no tensor")
    return value


@contextmanager
def tapped(model: nn.Module, names: Iterable[str]) -> Iterator[Taps]:
    """Keep what layers take and return as long as the context lasts.

    Gradients flow through what is kept. A forward pass of the model forgets the one before. When the context
    ends, by an exception too, the model is as it was: its hooks, its state and its outputs.

    Args:
        model: Runs inside of the context.
        names: Names of layers, as in `get_submodule`.

    Raises:
        ValueError: If the model holds no layer of a name.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in modules:
            raise ValueError(f"the model holds no layer {name!r}")
    taps = Taps(wanted)
    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(lambda module, inputs: taps._start()).remove)
        for name in wanted:
            hooks.callback(modules[name].register_forward_pre_hook(_take(taps, name)).remove)
            hooks.callback(modules[name].register_forward_hook(_give(taps, name)).remove)
        yield taps


def _take(taps: Taps, name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
    return lambda module, inputs: taps._take(name, inputs)


def _give(taps: Taps, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
    return lambda module, inputs, output: taps._give(name, output)
