"""Checkpoints of runs that are being trained: one file a run, whole or not there, verified when it is read.

    checkpoints/<key>.checkpoint    SHA-256 of what follows, then a safetensors file

Only who holds a run's lock may use its checkpoint.
"""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from pytest_claims.basics.atomic_file import replacing
from pytest_claims.training.training_state import Snapshot

SECONDS_BETWEEN = 60.0
"""Within an epoch; at its end a checkpoint is due whenever it is cheap."""

COST_LIMIT = 0.02
"""Share of the time that may be spent on writing checkpoints."""

_STATE = "state.json"
_DIGEST_BYTES = hashlib.sha256().digest_size


class CheckpointDamageError(ValueError):
    """The file is not as it was written; the message names it."""


@dataclass(frozen=True)
class Checkpoint:
    """An interrupted training.

    Attributes:
        snapshot: Where to go on.
        seconds: That it had taken.
    """

    snapshot: Snapshot
    seconds: float


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Reads a run's checkpoint; None if there is none.

    Raises:
        CheckpointDamageError: It is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointDamageError(f"{path}: cannot be read ({error.strerror})") from error
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise CheckpointDamageError(f"{path}: its hash is not the one it begins with")
    try:
        tensors = safetensors.torch.load(payload)
        state = json.loads(tensors.pop(_STATE).numpy().tobytes())
        return Checkpoint(Snapshot(tensors, state["position"]), float(state["seconds"]))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointDamageError(f"{path}: is no checkpoint ({type(error).__name__}: {error})") from error


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces a run's checkpoint.

    Raises:
        OSError: The folder cannot be written; the checkpoint is then as it was.
    """
    state = json.dumps({"position": checkpoint.snapshot.position, "seconds": checkpoint.seconds}).encode()
    tensors = {**checkpoint.snapshot.tensors, _STATE: torch.frombuffer(bytearray(state), dtype=torch.uint8)}
    payload = safetensors.torch.save(tensors)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(payload).digest())
        file.write(payload)


def remove_checkpoint(path: Path) -> None:
    """Removes a run's checkpoint, if it has one; a store that does not let it is no harm."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Removes what a process that was killed while writing a run's checkpoint has left."""
    with suppress(OSError):
        for leftover in path.parent.glob(f".{path.name}.*.tmp"):
            leftover.unlink(missing_ok=True)


class CheckpointClock:
    """Tells when the next checkpoint is due: at an epoch's end or after `SECONDS_BETWEEN`, within `COST_LIMIT`."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._written = now()
        self._cost = 0.0

    def is_due(self, *, at_epoch_end: bool) -> bool:
        """Whether one is to be written now."""
        since = self._now() - self._written
        return since * COST_LIMIT >= self._cost and (at_epoch_end or since >= SECONDS_BETWEEN)

    def time_writing(self, write: Callable[[], None]) -> None:
        """Writes one, and takes note of what it cost."""
        started = self._now()
        write()
        self._written = self._now()
        self._cost = self._written - started
