"""The process that makes runs: `python -m pytest_claims.workers.worker OPTIONS WANTED`, both JSON.

Every worker runs the same loop: take the ready, missing, unlocked run with the longest remaining path, hold its lock,
make it, go on; wait only when nothing is ready. It tells what it does as JSON lines on its standard output.
"""

import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from types import FrameType
from typing import TextIO

import torch

from pytest_claims.datasets.dataset import Dataset, DatasetError
from pytest_claims.datasets.preparation import PreparedData
from pytest_claims.keys.code_fingerprint import ENGINE, ROOT
from pytest_claims.keys.numerics import numerics_environment
from pytest_claims.store import Failure, Store, StoredRun, StoreError
from pytest_claims.store.run_lock import LockHeldError
from pytest_claims.suite.open_runs import OpenRuns
from pytest_claims.suite.planning import Plan, PlannedRun, lineage
from pytest_claims.suite.suite import Suite, SuiteOptions
from pytest_claims.training.context import Built, Context, Parent
from pytest_claims.workers.making import history_csv, make, make_deterministic, write_weights
from pytest_claims.workers.patience import Patience
from pytest_claims.workers.run_watcher import RunWatcher

_POLL_SECONDS = 0.2

Emit = Callable[..., None]


def main(options: str, wanted: str) -> None:
    """Makes whatever wanted runs are missing.

    Args:
        options: JSON of `SuiteOptions`.
        wanted: JSON object of each model's seeds.
    """
    signal.signal(signal.SIGTERM, _leave)
    make_deterministic()
    suite = Suite(SuiteOptions.from_json(options))
    emit = partial(_write_event, _take_standard_output())
    try:
        work(suite, suite.plan(json.loads(wanted)), emit)
    except (StoreError, DatasetError) as error:
        emit("error", message=str(error))
        sys.exit(1)
    except OSError as error:  # a builder's own are failures of its run
        emit("error", message=f"run store {suite.options.store}: {error}")
        sys.exit(1)


def _leave(signal_number: int, frame: FrameType | None) -> None:
    """Ends the process as an exception does, so that no lock is kept and no half-written file."""
    sys.exit(128 + signal_number)


def _take_standard_output() -> TextIO:
    """Standard output for events alone: whatever a library prints goes to standard error from now on."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return events


def _write_event(stream: TextIO, event: str, **fields: object) -> None:
    try:
        print(json.dumps({"event": event, **fields}), file=stream, flush=True)
    except BrokenPipeError:
        # Whoever started this worker has gone: a reason to end, and no failure of the run in hand.
        sys.exit("nobody listens any more")


def work(suite: Suite, plan: Plan, emit: Emit) -> None:
    """The loop; ends when every run is finished, has failed or cannot be made since a parent failed.

    Raises:
        StoreError: Others hold the locks of all that is left, and for half an hour none has shown progress.
    """
    open_runs = OpenRuns(suite.store, plan)
    patience = Patience(suite.store)
    while waiting := open_runs.waiting():
        ready = open_runs.ready(waiting)
        for planned in ready:
            if _make_if_free(suite, planned, open_runs, emit):
                break
        else:
            # Sent again and again: so a worker whose session has gone ends.
            emit("waiting", holder=patience.wait_for(ready))
            time.sleep(_POLL_SECONDS)


def _make_if_free(suite: Suite, planned: PlannedRun, open_runs: OpenRuns, emit: Emit) -> bool:
    """Makes a run, unless another process does, or a parent must be made again first; whether anything has changed.

    Raises:
        StoreError: Of the store, as when a disk is full.
        DatasetError: The data set cannot be read; no run is to blame.
        OSError: Likewise.
    """
    with _taken(suite.store, planned.key) as mine:
        if not mine or suite.store.load(planned.key) or suite.store.failure(planned.key):
            return False
        needed = lineage(open_runs.plan, planned)
        stored = {key: (run, found) for key, run in needed.items() if (found := suite.store.load(key))}
        if lost := needed.keys() - stored.keys():
            open_runs.lose(lost)
            return True
        data = _dataset(suite, planned)
        emit("start", key=planned.key)
        try:
            _make(suite, planned, stored, data, emit)
        except StoreError:  # what is wrong with the store, such as a full disk, is no run's fault
            raise
        except Exception as error:  # whatever a builder raises belongs to this run alone
            message = f"{planned.run.title}: {_reason(error, suite.options.project.paths)}"
            suite.store.record_failure(planned.key, Failure(planned.run.title, message, traceback.format_exc()))
            emit("failed", key=planned.key, message=message)
        else:
            emit("done", key=planned.key)
    return True


def _reason(error: Exception, paths: Sequence[Path]) -> str:
    # Torch tells of a CPU's memory by a plain RuntimeError.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        what = str(error).partition("\n")[0] or type(error).__name__
        return f"out of memory ({what}); fewer --jobs leave each run more"
    return f"{type(error).__name__}: {error}{_where(error, paths)}"


def _where(error: Exception, paths: Sequence[Path]) -> str:
    """The line of the project's code in the paths that an error came from; empty where it came from no such line."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        is_others = path.is_relative_to(ROOT / ENGINE) or "site-packages" in path.parts
        if not is_others and any(map(path.is_relative_to, paths)):
            return f" ({path.name}, line {frame.lineno})"
    return ""


@contextmanager
def _taken(store: Store, key: str) -> Iterator[bool]:
    lock = store.lock(key)
    try:
        lock.acquire(blocking=False)
    except LockHeldError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _make(
    suite: Suite,
    planned: PlannedRun,
    lineage: Mapping[str, tuple[PlannedRun, StoredRun]],
    data: Dataset | None,
    emit: Emit,
) -> None:
    watcher = RunWatcher(suite.store.checkpoint(planned.key), partial(emit, key=planned.key))
    context = Context(
        planned.run.recipe,
        planned.run.seed,
        _parents(planned, lineage),
        data,
        torch.device(suite.options.device),
        watcher,
        suite.options.pretrained_weights,
        suite.project.measure_functions,
    )
    built = make(context)
    _check_finite(built)
    suite.store.save(
        planned.key,
        lambda path: write_weights(built, path),
        built.measurements,
        history_csv(built.history),
        _provenance(suite, planned, watcher.seconds),
    )
    watcher.finish()


def _parents(planned: PlannedRun, lineage: Mapping[str, tuple[PlannedRun, StoredRun]]) -> dict[str, Parent]:
    """What a run is made from, and so on as far as it is known."""
    parents = {}
    for role, key in planned.parents.items():
        if key in lineage:
            parent, stored = lineage[key]
            recipe = parent.run.recipe
            parents[role] = Parent(recipe, stored.weights, stored.measurements, _parents(parent, lineage))
    return parents


def _check_finite(built: Built) -> None:
    """Refuses what a finite loss does not rule out: it need not depend on every weight.

    Raises:
        ValueError: A measurement or a tensor of the state is NaN or infinite.
    """
    for name, value in built.measurements.items():
        if not math.isfinite(value):
            raise ValueError(f"measurement {name!r} is {value}, must be finite")
    for name, tensor in built.state.items():
        if bad := int((~torch.isfinite(tensor)).sum()):
            raise ValueError(f"{name!r} holds {bad} of {tensor.numel()} values that are not finite")


@lru_cache(maxsize=2)
def _load(data: PreparedData) -> Dataset:
    return data.load()


def _dataset(suite: Suite, planned: PlannedRun) -> Dataset | None:
    data = suite.data_of(planned.run)
    return _load(data) if data else None


def _provenance(suite: Suite, planned: PlannedRun, seconds: float) -> dict[str, object]:
    run = planned.run
    data = suite.data_of(run)
    return {
        "name": run.name,
        "seed": run.seed,
        "profile": suite.profile.name,
        "recipe": run.recipe.canonical(),
        "parents": dict(planned.parents),
        "data": data.identity if data else None,
        "environment": numerics_environment(suite.options.device),
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
