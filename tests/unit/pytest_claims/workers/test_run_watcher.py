import errno

import pytest
import torch

from pytest_claims.training.checkpoints import SECONDS_BETWEEN, Checkpoint, read_checkpoint, write_checkpoint
from pytest_claims.training.training import Advance
from pytest_claims.training.training_state import Epoch, Snapshot
from pytest_claims.workers import run_watcher
from pytest_claims.workers.run_watcher import SECONDS_BETWEEN_EVENTS, RunWatcher

EPOCH = Epoch(1, 0.5, 90.0, 80.0)


class Setting:
    def __init__(self, folder):
        self.path = folder / "key.checkpoint"
        self.now = 1000.0
        self.told = []
        self.watcher = self.watch()

    def watch(self):
        return RunWatcher(self.path, lambda event, **fields: self.told.append((event, fields)), lambda: self.now)

    def advance(self, share, epoch=None, mark=0.0):
        snapshot = Snapshot({"mark": torch.tensor(mark)}, "{}")
        self.watcher.advance(Advance(share, int(1000 * share), epoch), lambda: snapshot)

    def kept(self):
        checkpoint = read_checkpoint(self.path)
        return None if checkpoint is None else float(checkpoint.snapshot.tensors["mark"])


@pytest.fixture
def setting(tmp_path):
    return Setting(tmp_path)


def test_epochs_are_told_at_once_and_steps_now_and_then(setting):
    setting.advance(0.1)
    setting.advance(0.2, EPOCH)
    setting.now += SECONDS_BETWEEN_EVENTS
    setting.advance(0.3)
    setting.advance(0.4)
    assert setting.told == [
        ("progress", {"share": 0.2, "images": 200, "accuracy": 80.0}),
        ("progress", {"share": 0.3, "images": 300, "accuracy": None}),
    ]


def test_a_checkpoint_is_kept_at_an_epochs_end_and_within_a_long_one(setting):
    setting.advance(0.1, mark=1.0)
    assert setting.kept() is None
    setting.advance(0.2, EPOCH, mark=2.0)
    assert setting.kept() == 2.0
    setting.now += SECONDS_BETWEEN - 1
    setting.advance(0.3, mark=3.0)
    assert setting.kept() == 2.0
    setting.now += 1
    setting.advance(0.4, mark=4.0)
    assert setting.kept() == 4.0


def test_the_last_step_needs_none(setting):
    setting.advance(1.0, EPOCH)
    assert setting.kept() is None


def test_a_training_goes_on_where_it_was_and_its_times_add_up(setting):
    setting.now += 30
    setting.advance(0.2, EPOCH, mark=2.0)
    setting.now += 5000  # killed, and started again later
    setting.watcher = setting.watch()
    snapshot = setting.watcher.resume()
    assert float(snapshot.tensors["mark"]) == 2.0
    setting.now += 12
    assert setting.watcher.seconds == pytest.approx(42)
    setting.watcher.finish()
    assert setting.watch().resume() is None


def test_what_a_killed_writer_left_is_removed(setting):
    leftover = setting.path.with_name(f".{setting.path.name}.0123.tmp")
    leftover.write_bytes(b"half")
    assert setting.watcher.resume() is None
    assert not leftover.exists()


def test_a_damaged_checkpoint_is_told_of_and_removed(setting):
    write_checkpoint(setting.path, Checkpoint(Snapshot({}, "{}"), 1.0))
    setting.path.write_bytes(setting.path.read_bytes()[:-1])
    assert setting.watcher.resume() is None
    message = f"{setting.path}: its hash is not the one it begins with; the run starts anew"
    assert setting.told == [("warning", {"message": message})]
    assert not setting.path.exists()
    assert setting.watcher.seconds == 0


def test_a_full_disk_is_told_of_and_the_training_goes_on(setting, monkeypatch):
    def full(path, checkpoint):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_watcher, "write_checkpoint", full)
    setting.advance(0.2, EPOCH)
    message = f"{setting.path}: cannot be written (No space left on device)"
    assert setting.told[1:] == [("warning", {"message": message})]
