import hashlib
import os
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.training.checkpoints import (
    COST_LIMIT,
    SECONDS_BETWEEN,
    Checkpoint,
    CheckpointClock,
    CheckpointDamageError,
    read_checkpoint,
    remove_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from pytest_claims.training.training_state import Snapshot

TENSORS = {
    "model.weight": torch.linspace(-1, 1, 12).reshape(3, 4),
    "model.steps": torch.tensor(7),
    "random.cpu": torch.get_rng_state(),
    "empty": torch.zeros(0, 3),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "key.checkpoint"


def write(path, position='{"step": 3}', seconds=12.5):
    write_checkpoint(path, Checkpoint(Snapshot(TENSORS, position), seconds))


def test_a_checkpoint_comes_back_as_it_was(path):
    write(path)
    found = read_checkpoint(path)
    assert (found.snapshot.position, found.seconds) == ('{"step": 3}', 12.5)
    assert found.snapshot.tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert found.snapshot.tensors[name].dtype == value.dtype
        assert torch.equal(found.snapshot.tensors[name], value)


def test_there_may_be_none(path):
    assert read_checkpoint(path) is None


def test_a_later_one_takes_the_place_of_an_earlier(path):
    write(path)
    write(path, '{"step": 4}', 20.0)
    assert read_checkpoint(path).seconds == 20.0
    assert list(path.parent.iterdir()) == [path]


def test_one_that_cannot_be_written_leaves_the_earlier(path, monkeypatch):
    write(path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, seconds=20.0)
    assert read_checkpoint(path).seconds == 12.5
    assert list(path.parent.iterdir()) == [path]


def content(tmp_path):
    path = tmp_path / "checkpoints" / "whole"
    write(path)
    return path.read_bytes()


def check_damaged(tmp_path, damaged):
    path = tmp_path / "damaged"
    path.write_bytes(damaged)
    with pytest.raises(CheckpointDamageError, match=str(path)):
        read_checkpoint(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    whole = bytearray(content(folder))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))
    check_damaged(folder, bytes(whole))


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_found(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut")
    whole = content(folder)
    check_damaged(folder, whole[: int(share * len(whole))])


@pytest.mark.parametrize("payload", [b"", b"{}", struct.pack("<Q", 1 << 62), struct.pack("<Q", 2) + b"{}"])
def test_a_foreign_file_with_a_right_hash_is_no_checkpoint(tmp_path, payload):
    check_damaged(tmp_path, hashlib.sha256(payload).digest() + payload)


def test_a_folder_in_its_place_is_damage(path):
    path.mkdir(parents=True)
    with pytest.raises(CheckpointDamageError, match="cannot be read"):
        read_checkpoint(path)


def test_a_checkpoint_is_removed_once(path):
    write(path)
    remove_checkpoint(path)
    assert list(path.parent.iterdir()) == []
    remove_checkpoint(path)


def test_what_a_killed_writer_left_is_removed_but_nothing_of_other_runs(path):
    write(path)
    other = path.with_name("other.checkpoint")
    path.with_name(f".{path.name}.0123.tmp").write_bytes(b"half")
    foreign = path.with_name(f".{other.name}.0123.tmp")
    foreign.write_bytes(b"half")
    remove_leftovers(path)
    assert sorted(path.parent.iterdir()) == sorted([path, foreign])


class Time:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_one_is_due_at_an_epochs_end_and_within_a_long_epoch():
    now = Time()
    clock = CheckpointClock(now)
    assert clock.is_due(at_epoch_end=True)
    assert not clock.is_due(at_epoch_end=False)
    now.seconds = SECONDS_BETWEEN
    assert clock.is_due(at_epoch_end=False)


def test_a_dear_one_is_seldom_due():
    now = Time()
    clock = CheckpointClock(now)

    def write():
        now.seconds += 3

    now.seconds = 10
    clock.time_writing(write)
    now.seconds = 13 + 3 / COST_LIMIT - 0.1
    assert not clock.is_due(at_epoch_end=True)
    assert not clock.is_due(at_epoch_end=False)
    now.seconds += 0.2
    assert clock.is_due(at_epoch_end=True)
    assert clock.is_due(at_epoch_end=False)
