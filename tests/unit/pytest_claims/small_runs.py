"""Runs of a few bytes, and a store that this process may not write to."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import Store
from pytest_claims.store.stored_run import StoredRun

NOBODY = 65534


def key_of(number: int) -> str:
    return f"{number:064x}"


def save_small(
    store: Store,
    number: int,
    name: str = "student-scratch",
    seed: int = 0,
    profile: str = "tiny",
    parents: Mapping[str, str] | None = None,
    content: bytes = b"weights",
) -> StoredRun:
    provenance = {
        "name": name,
        "seed": seed,
        "profile": profile,
        "parents": dict(parents or {}),
        "seconds": 12.345,
        "finished": "2026-01-02T03:04:05+00:00",
    }
    measurements = {"accuracy": 70.0 + number, "parameters": 4}
    return store.save(key_of(number), lambda path: path.write_bytes(content), measurements, "epoch\n", provenance)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def read_only(root: Path) -> Iterator[Path]:
    """A path of a folder that may be read and no more; whom permission bits do not stop becomes someone else."""
    here = Path.cwd()
    os.chdir(root)  # so that whoever this process becomes need not be let through the folders above
    paths = [Path(), *Path().rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if os.access(Path(), os.W_OK):
        os.seteuid(NOBODY)
    try:
        yield Path()
    finally:
        os.seteuid(user)
        for path, mode in modes.items():
            path.chmod(mode)
        os.chdir(here)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs a script, its output to be read."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
