import os
import socket
from datetime import UTC, datetime

import filelock
import pytest
from small_runs import read_only, start

from pytest_claims.store.errors import StoreError
from pytest_claims.store.run_lock import LockHeldError, RunLock

HOLDING = """
import sys
from pathlib import Path
from pytest_claims.store.run_lock import RunLock

with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "key.lock"


def test_whoever_finds_it_held_is_told_by_whom(path):
    before = datetime.now(UTC).replace(microsecond=0)
    with start(HOLDING, path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockHeldError) as caught:
            RunLock(path).acquire(blocking=False)
        owner = RunLock(path).owner()
        assert (owner.process, owner.host) == (process.pid, socket.gethostname())
        assert before <= datetime.fromisoformat(owner.since) <= datetime.now(UTC)
        process.communicate("", timeout=600)
    assert isinstance(caught.value, filelock.Timeout)
    assert caught.value.owner == owner
    assert str(caught.value) == f"{path}: held by process {process.pid} on {owner.host} since {owner.since}"
    assert RunLock(path).owner() is None


def test_a_wait_is_as_long_as_asked_for(path):
    with RunLock(path), pytest.raises(LockHeldError, match=f"held by process {os.getpid()} on"):
        RunLock(path).acquire(timeout=0.01)


def test_it_is_free_after_its_context_and_after_release(path):
    lock = RunLock(path)
    with lock.acquire(), pytest.raises(LockHeldError):
        RunLock(path).acquire(blocking=False)
    with lock:
        assert lock.owner().process == os.getpid()
    lock.acquire(blocking=False)
    lock.release()
    with RunLock(path).acquire(blocking=False):
        pass
    assert lock.owner() is None


def test_releasing_what_is_not_held_leaves_the_holder_his_note(path):
    with RunLock(path):
        RunLock(path).release()
        assert RunLock(path).owner().process == os.getpid()
        with pytest.raises(LockHeldError):
            RunLock(path).acquire(blocking=False)


def test_the_note_of_a_killed_process_gives_way_to_the_next_holder(path):
    with start(HOLDING, path) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait(timeout=600)
    with RunLock(path).acquire(timeout=600):
        assert RunLock(path).owner().process == os.getpid()
    assert RunLock(path).owner() is None


@pytest.mark.parametrize("note", [b"", b'{"process": 12', b"[]", b"null", b'{"process": 1}', b"\xff", b"[" * 200_000])
def test_a_note_that_cannot_be_read_leaves_the_holder_unknown(path, note):
    with RunLock(path):
        path.with_suffix(".owner").write_bytes(note)
        assert RunLock(path).owner() is None
        with pytest.raises(LockHeldError, match="held by another process"):
            RunLock(path).acquire(blocking=False)


def test_a_note_that_cannot_be_written_does_not_hinder(path):
    path.with_suffix(".owner").mkdir()
    with RunLock(path):
        assert RunLock(path).owner() is None
        with pytest.raises(LockHeldError):
            RunLock(path).acquire(blocking=False)


@pytest.mark.parametrize("exists", [False, True])
def test_a_lock_that_cannot_be_written_is_one_clear_error(path, exists):
    if exists:
        path.touch()
    with (
        read_only(path.parent) as folder,
        pytest.raises(StoreError, match=r"lock key.lock: cannot be taken \(Permission denied\)"),
    ):
        RunLock(folder / path.name).acquire(blocking=False)
