"""Sessions of a project whose only runs are a few students, made by real workers in a fraction of a second each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import HISTORY, MEASUREMENTS, WEIGHTS, Store

SEEDS = 3
EPOCHS = 8

PROJECT_FILES = ("conftest.py", "pyproject.toml", "tests/reproduce/test_claims.py")
CLAIM = {
    "id": "q2-student",
    "section": "question 2",
    "kind": "accuracy",
    "source": "ours",
    "statement": "A student has an accuracy.",
    "model": "student-scratch",
    "at_least": -1000,
}

# Changes what a run is, so that the session and its workers both load it.
LONGER = """
from dataclasses import replace
from experiments import profiles
_tiny = profiles.PROFILES["tiny"]
def _longer(request):
    profile = _tiny(request)
    return replace(profile, budgets=replace(profile.budgets, student=replace(profile.budgets.student, epochs=@)))
profiles.PROFILES["tiny"] = _longer
""".replace("@", str(EPOCHS))

# A pytest plugin: puts the script below in the place of Python, so that it runs as every worker; draws no plots.
MANY_KILLS = """
import pathlib, types
import longer
from pytest_claims.workers import building, driver
from pytest_claims import report
report.write_results = lambda *arguments: None
driver.MOST_ATTEMPTS = 100
building.sys = types.SimpleNamespace(executable=str(pathlib.Path(__file__).with_name("worker")))
"""

# Keeps a checkpoint after every step, and a list of all runs that were begun.
WORKER = """#!{python}
import gc
gc.disable()  # a fifth of the time that it takes to import torch
import os, resource, sys, time
import longer
from pytest_claims.training import checkpoints
from pytest_claims.workers import run_watcher
from pytest_claims.workers import worker
checkpoints.SECONDS_BETWEEN, checkpoints.COST_LIMIT = 0.0, 1e9
if limit := os.environ.get("WORKER_FILE_BYTES"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
write_checkpoint = run_watcher.write_checkpoint
def write_and_pause(*arguments):
    write_checkpoint(*arguments)
    time.sleep(float(os.environ.get("WORKER_PAUSE", "0")))
run_watcher.write_checkpoint = write_and_pause
tell = worker._write_event
def tell_and_note(stream, event, **fields):
    if event == "start":
        with open({starts!r}, "a") as file:
            file.write(fields["key"] + "\\n")
    tell(stream, event, **fields)
worker._write_event = tell_and_note
worker.main(*sys.argv[-2:])
"""


@dataclass(frozen=True)
class Ended:
    """A session that has ended by itself."""

    status: int
    output: str
    errors: str

    @property
    def claims(self) -> str:
        """The table of claims."""
        return self.output.partition("= claims =")[2].partition("short test summary")[0]

    def done(self) -> list[str]:
        """Titles of the runs that it told of as done."""
        lines = [line for line in self.output.splitlines() if "] done " in line]
        return [line.partition("] done ")[2].partition(";")[0] for line in lines]


class StudentProject:
    """A folder with claims, and what starts sessions on them.

    Args:
        folder: Empty, or not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in PROJECT_FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "expected_results.json").write_text(json.dumps({"format": 1, "claims": [CLAIM]}))
        (folder / "longer.py").write_text(LONGER)
        (folder / "many_kills.py").write_text(MANY_KILLS)
        worker = folder / "worker"
        worker.write_text(WORKER.format(python=sys.executable, starts=str(folder / "starts")))
        worker.chmod(0o755)

    def start(
        self, store: Path, *arguments: str, prepare: Callable[[], None] | None = None, **environment: str
    ) -> "subprocess.Popen[str]":
        """Starts a session in a process group of its own, as a shell does; `prepare` is called in its process first."""

        def begin() -> None:
            take_interrupts()
            if prepare:
                prepare()

        options = ["-m", "reproduce", "--profile", "tiny", f"--seeds={SEEDS}", f"--store-dir={store}"]
        plugins = ["-p", "many_kills", "-p", "no:cacheprovider"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        path = os.pathsep.join([str(ROOT), str(self.folder)])
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *plugins, *options, f"--results-dir={store}-results", *arguments],
            cwd=self.folder,
            env={**inherited, "PYTHONPATH": path, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=begin,
        )

    def run(self, store: Path, *arguments: str, prepare: Callable[[], None] | None = None, **environment: str) -> Ended:
        """A whole session."""
        return ended(self.start(store, *arguments, prepare=prepare, **environment))

    def starts(self) -> list[str]:
        """The keys of all runs that any worker has begun, in order."""
        noted = self.folder / "starts"
        return noted.read_text().splitlines() if noted.exists() else []


def take_interrupts() -> None:
    """Lets SIGINT end the programs that this process starts, though a shell's background job may ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(session: "subprocess.Popen[str]") -> Ended:
    """Waits for the end of a session."""
    output, errors = session.communicate()
    return Ended(session.returncode, output, errors)


def made(store: Path) -> dict[str, tuple[bytes, ...]]:
    """What each run of a store consists of; a run that does not match its manifest is an error, as is any other entry.

    Only what a killed process was writing may be left, under a name that no run has.
    """
    reader = Store(store, on_damage=lambda message: (_ for _ in ()).throw(AssertionError(message)))
    keys = [path.name for path in (store / "runs").iterdir() if not path.name.startswith(".partial-")]
    runs = {key: reader.load(key) for key in keys}
    assert None not in runs.values()
    return {
        key: tuple((run.folder / name).read_bytes() for name in (WEIGHTS, MEASUREMENTS, HISTORY))
        for key, run in runs.items()
        if run is not None
    }


def workers_of(store: Path) -> list[int]:
    """Ids of the processes that make runs for a store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "pytest_claims.workers.worker" in command and any(
            json.dumps(str(store)) in argument for argument in command
        ):
            found.append(int(path.parent.name))
    return found


def wait_until(holds, seconds: float = 600) -> None:
    """Waits for something that comes in seconds on a quiet machine."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def signal_all(session: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Signals a session and its workers, as a terminal does."""
    os.killpg(session.pid, number)
