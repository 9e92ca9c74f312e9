"""What an interrupted training needs to go on to the same bytes: weights, optimizer, position and random states."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Epoch:
    """What is kept of an epoch.

    Attributes:
        epoch: Its number, from 1.
        loss: Mean over its steps.
        training_accuracy: Percent, over the batches as they were trained on.
        accuracy: Percent of the validation images; None if it was not evaluated.
    """

    epoch: int
    loss: float
    training_accuracy: float
    accuracy: float | None


@dataclass
class Position:
    """How far a training is.

    Attributes:
        history: The epochs that have ended.
        step: Steps done of the epoch under way.
        loss: Sum over those steps.
        correct: Images of those steps that were classified correctly.
    """

    history: list[Epoch] = field(default_factory=list)
    step: int = 0
    loss: float = 0.0
    correct: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A training at one moment: tensors by name, and what else there is as JSON."""

    tensors: Mapping[str, Tensor]
    position: str


_MODEL, _OPTIMIZER, _RANDOM = "model.", "optimizer.", "random."


def take_snapshot(model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Snapshot:
    """Copies the state of a training between two steps."""
    tensors = {_MODEL + name: value for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{number}.{name}": value for name, value in state.items() if value is not None}
    copies = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    random = {_RANDOM + device: state for device, state in _random_states(model).items()}
    return Snapshot(copies | random, json.dumps(asdict(position)))


def restore_snapshot(snapshot: Snapshot, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Puts a training back to where a snapshot was taken; the memory layout of the model's tensors stays."""
    parts = {prefix: _with_prefix(snapshot.tensors, prefix) for prefix in (_MODEL, _OPTIMIZER, _RANDOM)}
    model.load_state_dict(parts[_MODEL])
    _restore_optimizer(optimizer, parts[_OPTIMIZER])
    _restore_random_states(model, parts[_RANDOM])
    fields = json.loads(snapshot.position)
    return Position(**{**fields, "history": [Epoch(**epoch) for epoch in fields["history"]]})


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Every kind of state that has a parameter's shape gets its layout too, since the fused optimizers copy others."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, kind = name.partition(".")
        parameter = parameters[int(number)]
        like = value.shape == parameter.shape and value.dim() > 0
        state.setdefault(int(number), {})[kind] = torch.empty_like(parameter).copy_(value) if like else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _random_states(model: nn.Module) -> dict[str, Tensor]:
    """Torch's global states, which layers such as dropout draw from: the CPU's and that of the model's device."""
    states = {"cpu": torch.get_rng_state()}
    if (device := _device(model)).type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_random_states(model: nn.Module, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], _device(model))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
