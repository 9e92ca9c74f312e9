import pytest
from small_runs import key_of

from pytest_claims.store import Store
from pytest_claims.store.archive import INDEX, MEMBERS, MOST_BYTES, is_key, member_name

KEY = key_of(1)


@pytest.mark.parametrize(
    "text", ["", "..", "/", KEY[1:], KEY + "0", KEY[1:] + "A", KEY + "\n", "../" + KEY[3:], 1, None]
)
def test_only_the_hash_of_a_run_is_a_key(text):
    assert is_key(KEY)
    assert not is_key(text)


def test_every_file_of_a_run_has_a_place_and_a_bound(tmp_path):
    run = Store(tmp_path).save(key_of(1), lambda path: path.write_bytes(b"w"), {}, "", {})
    assert sorted(MEMBERS) == sorted(path.name for path in run.folder.iterdir())
    assert {*MEMBERS, INDEX} == set(MOST_BYTES)
    for name in MEMBERS:
        assert member_name(key_of(1), name) == str((run.folder / name).relative_to(tmp_path))
