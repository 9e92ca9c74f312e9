import pytest
from small_runs import key_of, save_small

from pytest_claims.store import Failure, Store
from pytest_claims.store.partial import partial
from pytest_claims.store.stored_run import HISTORY, MANIFEST, MEASUREMENTS, WEIGHTS
from pytest_claims.store.verification import verify_store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    for number in range(3):
        save_small(store, number)
    return store


def verify(store):
    steps = []
    return verify_store(store.root, lambda done, total: steps.append((done, total))), steps


def test_a_sound_store_is_whole(store):
    store.record_failure(key_of(9), Failure("a", "b", "c"))
    found, steps = verify(store)
    assert (found.whole, found.problems, found.set_aside, found.left_behind) == (3, (), (), ())
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert store.failure(key_of(9)) is not None


@pytest.mark.parametrize("name", [WEIGHTS, MEASUREMENTS, HISTORY, MANIFEST])
def test_a_damaged_run_is_named_and_set_aside(store, name):
    (store.folder(key_of(1)) / name).write_bytes(b"x")
    found, _ = verify(store)
    assert found.whole == 2
    (problem,) = found.problems
    assert key_of(1) in problem
    assert [path.name[:64] for path in found.set_aside] == [key_of(1)]
    assert store.run_keys() == [key_of(0), key_of(2)]
    again, _ = verify(store)
    assert (again.whole, again.problems, again.set_aside) == (2, (), found.set_aside)


def test_what_is_no_run_is_damage(store):
    (store.root / "runs" / "notes.txt").write_text("what is this")
    found, _ = verify(store)
    assert found.whole == 3
    assert len(found.problems) == 1
    assert "notes.txt: is not a folder" in found.problems[0]


def test_a_damaged_tombstone_is_named(store):
    path = store.root / "failed" / f"{key_of(9)}.json"
    path.write_text("half of it")
    found, _ = verify(store)
    assert found.problems == (f"{path}: is no tombstone; counts as none",)
    assert not path.exists()


def test_what_killed_processes_left_is_told_and_what_is_being_written_is_not(store):
    left = [store.root / "runs" / ".partial-a", store.root / "failed" / ".partial-b"]
    left[0].mkdir()
    left[1].touch()
    with partial(store.root / "runs") as path:
        path.mkdir()
        found, _ = verify(store)
    assert found.left_behind == tuple(left)
    assert found.problems == ()
