import os
import shutil
import time

import pytest

from pytest_claims.store import HISTORY, MANIFEST, MEASUREMENTS, WEIGHTS, Store, stored_run
from pytest_claims.store.verified_runs import VerifyingOnce

KEY = "a" * 64


@pytest.fixture
def hashed(monkeypatch):
    """Paths of the files that are hashed."""
    paths, file_hash = [], stored_run.file_hash
    monkeypatch.setattr(stored_run, "file_hash", lambda path: (paths.append(path), file_hash(path))[1])
    return paths


@pytest.fixture
def settled(monkeypatch):
    """Makes files old at once: no program can set the time of their status change."""
    now = time.time
    monkeypatch.setattr("pytest_claims.store.verified_runs.time.time", lambda: now() + 60)


@pytest.fixture
def damages():
    return []


@pytest.fixture
def store(tmp_path, damages):
    store = VerifyingOnce(tmp_path, on_damage=damages.append)
    store.save(KEY, lambda path: path.write_bytes(b"weights"), {"accuracy": 9.0}, "epoch\n", {"seed": 3})
    return store


def test_a_run_is_read_as_any_store_reads_it(store, tmp_path, settled):
    assert store.load(KEY) == store.load(KEY) == Store(tmp_path).load(KEY)
    assert store.load("b" * 64) is None


def test_what_does_not_change_is_hashed_once(store, hashed, settled):
    for _ in range(3):
        assert store.load(KEY) is not None
    assert sorted(path.name for path in hashed) == [HISTORY, MEASUREMENTS, WEIGHTS]


def test_files_that_have_just_changed_are_hashed_each_time(store, hashed):
    for _ in range(3):
        store.load(KEY)
    assert len(hashed) == 9


def keep_times(path, act):
    before = path.stat()
    act()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(path):
    keep_times(path, lambda: path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes())))


def replace_by_another(path):
    other = path.with_name("other")
    other.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    keep_times(path, lambda: other.replace(path))


def remove(path):
    path.unlink()


@pytest.mark.parametrize("name", [WEIGHTS, MEASUREMENTS, HISTORY, MANIFEST])
@pytest.mark.parametrize("tamper", [flip, replace_by_another, remove])
def test_altered_files_are_found_though_size_and_time_of_change_are_as_before(store, damages, settled, tamper, name):
    run = store.load(KEY)
    time.sleep(0.02)  # the clock by which file systems stamp has ticks
    tamper(run.folder / name)
    assert store.load(KEY) is None
    assert len(damages) == 1
    assert store.load(KEY) is None
    assert len(damages) == 1


def test_a_run_that_was_removed_is_gone_and_one_made_again_is_read_again(store, hashed, settled):
    folder = store.load(KEY).folder
    shutil.rmtree(folder)
    assert store.load(KEY) is None
    store.save(KEY, lambda path: path.write_bytes(b"others"), {"accuracy": 8.0}, "epoch\n", {"seed": 3})
    assert store.load(KEY).measurements["accuracy"] == 8.0
