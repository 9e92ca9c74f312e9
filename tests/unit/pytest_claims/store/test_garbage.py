import pytest
from small_runs import contents, key_of, read_only, save_small, start

from pytest_claims.store import Failure, Store
from pytest_claims.store.errors import StoreError
from pytest_claims.store.garbage import (
    leftovers,
    size,
    stale_checkpoints,
    tombstones,
    unreachable,
)
from pytest_claims.store.partial import partial
from pytest_claims.store.stored_run import WEIGHTS


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def described(garbage):
    return [(each.kind, each.path.name, each.bytes) for each in garbage]


def remove(garbage):
    return [each.remove() for each in garbage]


def checkpoint(store, number, content=b"epoch 3"):
    path = store.root / "checkpoints" / f"{key_of(number)}.checkpoint"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def everything(store):
    return [
        *leftovers(store),
        *stale_checkpoints(store),
        *tombstones(store),
        *unreachable(store, {key_of(1)}),
    ]


def test_a_clean_store_has_no_garbage(store):
    save_small(store, 1)
    assert everything(store) == []


def test_looking_changes_nothing(store):
    save_small(store, 1)
    save_small(store, 2)
    checkpoint(store, 1)
    store.record_failure(key_of(3), Failure("a", "b", "c"))
    (store.root / "runs" / ".partial-x").mkdir()
    before = contents(store.root)
    assert len(everything(store)) == 4
    assert contents(store.root) == before


def test_leftovers_are_what_was_set_aside_and_what_dead_processes_left(store):
    (save_small(store, 1).folder / WEIGHTS).write_bytes(b"damaged")
    assert store.load(key_of(1)) is None
    (aside,) = (store.root / "set-aside").iterdir()
    left = store.root / "runs" / ".partial-x"
    left.mkdir()
    (left / WEIGHTS).write_bytes(b"12345")
    (store.root / "failed" / ".partial-y").write_bytes(b"123")
    save_small(store, 2)
    with partial(store.root / "runs") as living:
        living.mkdir()
        garbage = list(leftovers(store))
        assert described(garbage) == [
            ("left behind", ".partial-x", 5),
            ("left behind", ".partial-y", 3),
            ("set aside", aside.name, sum(path.stat().st_size for path in aside.iterdir())),
        ]
        assert remove(garbage) == ["", "", ""]
        assert living.is_dir()
    assert list(leftovers(store)) == []
    assert store.run_keys() == [key_of(2)]
    assert list((store.root / "failed").iterdir()) == []


SAVING = """
import sys
from pathlib import Path
from pytest_claims.store import Store

def write(path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()

Store(Path(sys.argv[1])).save(sys.argv[2], write, {}, "", {})
"""


def test_a_run_is_left_behind_only_when_its_process_was_killed(store):
    with start(SAVING, store.root, key_of(1)) as process:
        assert process.stdout.readline() == "writing\n"
        assert list(leftovers(store)) == []
        process.kill()
        process.wait(timeout=600)
    garbage = list(leftovers(store))
    assert [(each.kind, each.bytes) for each in garbage] == [("left behind", 4)]
    assert store.load(key_of(1)) is None
    remove(garbage)
    assert list((store.root / "runs").iterdir()) == []


def test_checkpoints_go_when_their_run_is_whole(store):
    save_small(store, 1)
    finished, unfinished = checkpoint(store, 1), checkpoint(store, 2)
    damaged = checkpoint(store, 3)
    (save_small(store, 3).folder / WEIGHTS).write_bytes(b"x")
    stranger = finished.with_name("notes.txt")
    stranger.touch()
    garbage = list(stale_checkpoints(store))
    assert described(garbage) == [("checkpoint", finished.name, 7)]
    assert remove(garbage) == [""]
    assert sorted(finished.parent.iterdir()) == sorted([unfinished, damaged, stranger])
    assert store.folder(key_of(3)).is_dir()


def test_a_checkpoint_whose_lock_is_held_stays(store):
    save_small(store, 1)
    path = checkpoint(store, 1)
    garbage = list(stale_checkpoints(store))
    with store.lock(key_of(1)):
        (kept,) = remove(garbage)
    assert "held by process" in kept
    assert path.exists()


def test_all_tombstones_can_go(store):
    for number in (1, 2):
        store.record_failure(key_of(number), Failure("a", "b", "c"))
    assert remove(tombstones(store)) == ["", ""]
    assert store.failed_keys() == []


def test_only_runs_out_of_reach_go_and_in_one_step(store):
    for number in (1, 2, 3):
        save_small(store, number)
    of_old_code, of_today = checkpoint(store, 4), checkpoint(store, 1)
    garbage = list(unreachable(store, {key_of(1)}))
    assert [path for _, path, _ in described(garbage)] == [key_of(2), key_of(3), of_old_code.name]
    with store.lock(key_of(3)):
        first, held, third = remove(garbage)
    assert (first, third) == ("", "")
    assert "held by process" in held
    assert store.run_keys() == [key_of(1), key_of(3)]
    assert [path.name for path in (store.root / "runs").iterdir() if path.name.startswith(".")] == []
    assert (of_old_code.exists(), of_today.exists()) == (False, True)


def test_what_another_process_removed_meanwhile_is_no_error(store):
    save_small(store, 1)
    store.record_failure(key_of(3), Failure("a", "b", "c"))
    (store.root / "runs" / ".partial-x").mkdir()
    checkpoint(store, 1)
    first, second = ([*everything(store), *unreachable(store, set())] for _ in range(2))
    assert remove(first) == remove(second) == [""] * 4
    assert contents(store.root / "runs") == {}


def test_what_cannot_be_removed_is_one_clear_error(store):
    save_small(store, 1)
    store.record_failure(key_of(3), Failure("a", "b", "c"))
    (store.root / "runs" / ".partial-x").mkdir()
    (store.root / "set-aside" / "damaged").mkdir(parents=True)
    before = contents(store.root)
    with read_only(store.root) as root:
        denied = Store(root)
        garbage = [*leftovers(denied), *tombstones(denied), *unreachable(denied, set())]
        assert len(garbage) == 4
        for each in garbage:
            with pytest.raises(StoreError, match=r"cannot be (removed|taken) \(Permission denied\)"):
                each.remove()
    assert contents(store.root) == before


def test_the_size_of_links_is_not_that_of_what_they_lead_to(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 1000)
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_bytes(b"x" * 10)
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "big")
    assert size(tmp_path / "folder") == 10 + (tmp_path / "folder" / "link").lstat().st_size
    assert size(tmp_path / "nothing") == 0
