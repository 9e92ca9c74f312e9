import gzip
import json
import os

import pytest
from run_archives import archive_of, members
from small_runs import contents, key_of, read_only, save_small

from pytest_claims.store import Store
from pytest_claims.store.archive_export import ExportError, export_runs, select, with_parents
from pytest_claims.store.errors import StoreError
from pytest_claims.store.listing import list_store
from pytest_claims.store.stored_run import WEIGHTS


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def family(store):
    """A backbone, a teacher made from it and a student of both, in two profiles."""
    save_small(store, 1, name="backbone", profile="quick")
    save_small(store, 2, name="teacher", profile="quick", parents={"initial": key_of(1)})
    save_small(store, 3, name="student", profile="quick", parents={"teacher": key_of(2)})
    save_small(store, 4, name="student", profile="tiny")
    return list_store(store).runs


def numbers(runs):
    return sorted(int(run.key, 16) for run in runs)


def test_tarfile_reads_whole_runs_in_the_order_that_is_promised(tmp_path):
    archive = archive_of(tmp_path, [2, 1])
    (index, *rest) = members(archive)
    assert index[0].name == "archive.json"
    assert json.loads(index[1]) == {"format": 1, "runs": [key_of(1), key_of(2)]}
    names = ["manifest.json", "measurements.json", "history.csv", "weights.safetensors"]
    assert [header.name for header, _ in rest] == [f"runs/{key_of(n)}/{name}" for n in (1, 2) for name in names]
    assert {header.name.removeprefix("runs/"): content for header, content in rest} == contents(
        tmp_path / "source" / "runs"
    )
    for header, _ in (index, *rest):
        assert header.isreg()
        assert (header.mtime, header.uid, header.gid, header.uname, header.gname) == (0, 0, 0, "", "")


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_the_same_runs_give_the_same_bytes(tmp_path, ending):
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    for archive, order in ((first, [1, 2, 3]), (second, [3, 1, 2])):
        store = Store(tmp_path / archive.name.replace(".", "-"))
        for number in order:
            save_small(store, number)
            os.utime(store.folder(key_of(number)) / WEIGHTS, (number, number))
        export_runs(store, [key_of(number) for number in order], archive)
    assert first.read_bytes() == second.read_bytes()
    assert (first.read_bytes()[:2] == b"\x1f\x8b") == (ending != ".tar")


def test_a_compressed_archive_holds_the_plain_one(tmp_path):
    plain, compressed = archive_of(tmp_path, [1], "a.tar"), archive_of(tmp_path, [1], "a.tar.gz")
    assert gzip.decompress(compressed.read_bytes()) == plain.read_bytes()


def test_an_archive_that_is_there_is_replaced_whole(tmp_path):
    archive = archive_of(tmp_path, [1, 2])
    before = archive.read_bytes()
    (tmp_path / "source" / "runs" / key_of(2) / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(StoreError, match="run 000000000000 is damaged or has left the store; nothing was exported"):
        export_runs(Store(tmp_path / "source"), [key_of(1), key_of(2)], archive)
    assert archive.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.tar", "source"]
    assert len(members(archive_of(tmp_path, [1]))) == 5


def test_what_cannot_be_written_is_one_clear_error(store, tmp_path):
    save_small(store, 1)
    with pytest.raises(StoreError, match=r"archive .*cannot be written \(No such file or directory\)"):
        export_runs(store, [key_of(1)], tmp_path / "nowhere" / "runs.tar")
    with (
        read_only(tmp_path) as here,
        pytest.raises(StoreError, match=r"archive runs.tar: cannot be written \(Permission denied\)"),
    ):
        export_runs(Store(here / "store"), [key_of(1)], here / "runs.tar")
    with pytest.raises(ExportError, match=r"runs.zip: must end in .tar, .tar.gz, .tgz"):
        export_runs(store, [key_of(1)], tmp_path / "runs.zip")


@pytest.mark.parametrize(
    ("words", "profiles", "expected"),
    [
        ([], [], [1, 2, 3, 4]),
        (["student"], [], [3, 4]),
        (["student", "teacher"], ["quick"], [2, 3]),
        ([key_of(4)], [], [4]),
        (["0" * 10], [], [1, 2, 3, 4]),
        ([], ["tiny"], [4]),
        ([], ["tiny", "quick"], [1, 2, 3, 4]),
    ],
)
def test_runs_are_chosen_by_name_key_and_profile(family, words, profiles, expected):
    assert numbers(select(family, words, profiles)) == expected


@pytest.mark.parametrize(
    ("words", "profiles", "wrong"),
    [(["student", "pupil"], [], "pupil"), (["teacher"], ["tiny"], "teacher"), ([], ["default"], "default")],
)
def test_a_word_that_fits_nothing_is_named(family, words, profiles, wrong):
    with pytest.raises(ExportError, match=f"^{wrong}: no finished run"):
        select(family, words, profiles)


def test_parents_come_along_at_any_depth(family):
    keys, missing = with_parents(select(family, ["student"], ["quick"]), family)
    assert (keys, missing) == ({key_of(1), key_of(2), key_of(3)}, set())
    without = [run for run in family if run.key != key_of(1)]
    assert with_parents(without, without) == ({key_of(2), key_of(3), key_of(4)}, {key_of(1)})
