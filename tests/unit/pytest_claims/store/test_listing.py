import pytest
from small_runs import contents, key_of, read_only, save_small

from pytest_claims.store import Failure, Store
from pytest_claims.store.listing import list_store
from pytest_claims.store.stored_run import MANIFEST, MEASUREMENTS, WEIGHTS, read_summary


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_an_empty_store_has_nothing(store):
    listing = list_store(store)
    assert (listing.runs, listing.failures, listing.damaged) == ((), {}, {})


def test_runs_come_by_profile_name_and_seed_as_a_number(store):
    save_small(store, 1, name="b", seed=10)
    save_small(store, 2, name="b", seed=9)
    save_small(store, 3, name="c", seed=0, profile="default")
    save_small(store, 4, name="a", seed=3)
    runs = list_store(store).runs
    assert [int(run.key, 16) for run in runs] == [3, 4, 2, 1]
    assert runs == tuple(read_summary(store.folder(run.key), run.key) for run in runs)


def test_failures_are_told_by_key(store):
    failure = Failure("student (seed 1)", "loss is nan", "Traceback")
    store.record_failure(key_of(7), failure)
    assert list_store(store).failures == {key_of(7): failure}


def test_damage_that_shows_without_the_weights_is_told_and_nothing_is_changed(store):
    folders = [save_small(store, number).folder for number in range(4)]
    (folders[0] / MEASUREMENTS).write_text("{}")
    (folders[1] / MANIFEST).unlink()
    (folders[2] / WEIGHTS).write_bytes(b"other")
    before = contents(store.root)
    listing = list_store(store)
    assert [run.key for run in listing.runs] == [key_of(2), key_of(3)]
    assert list(listing.damaged) == [key_of(0), key_of(1)]
    assert f"{MEASUREMENTS}: its hash" in listing.damaged[key_of(0)]
    assert f"{MANIFEST}: is missing" in listing.damaged[key_of(1)]
    assert contents(store.root) == before


def test_a_run_that_was_made_without_provenance_is_listed(store):
    store.save(key_of(1), lambda path: path.write_bytes(b"w"), {}, "", {})
    assert [run.key for run in list_store(store).runs] == [key_of(1)]


def test_a_read_only_store_can_be_listed(store):
    save_small(store, 1)
    with read_only(store.root) as root:
        assert [run.key for run in list_store(Store(root)).runs] == [key_of(1)]
