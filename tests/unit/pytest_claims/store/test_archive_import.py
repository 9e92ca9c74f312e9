import gzip
import io
import json
import os
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_archives import archive_of, member, members, write_archive
from small_runs import contents, key_of, read_only, save_small, start

from pytest_claims.store import Store
from pytest_claims.store.archive import ArchiveError
from pytest_claims.store.archive_export import export_runs
from pytest_claims.store.archive_import import Imported, import_runs
from pytest_claims.store.errors import StoreError
from pytest_claims.store.partial import abandoned

RUN = f"runs/{key_of(1)}"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.mark.parametrize("name", ["runs.tar", "runs.tar.gz"])
def test_what_was_exported_comes_in_as_it_was(store, tmp_path, name):
    archive = archive_of(tmp_path, [1, 2], name)
    assert import_runs(store, archive) == Imported((key_of(1), key_of(2)), ())
    assert contents(store.root / "runs") == contents(tmp_path / "source" / "runs")
    assert store.load(key_of(2)).measurements["accuracy"] == 72.0
    assert sorted(path.name for path in (store.root / "runs").iterdir()) == [key_of(1), key_of(2)]


def test_runs_that_are_there_are_left_and_damaged_ones_made_whole(store, tmp_path):
    there = save_small(store, 1, content=b"ours")
    damaged = save_small(store, 2).folder
    (damaged / "history.csv").unlink()
    found = import_runs(store, archive_of(tmp_path, [1, 2, 3]))
    assert found == Imported((key_of(2), key_of(3)), (key_of(1),))
    assert store.load(key_of(1)).weights.read_bytes() == b"ours" == there.weights.read_bytes()
    assert store.load(key_of(2)).folder == damaged


def test_an_empty_archive_brings_nothing(store, tmp_path):
    export_runs(store, [], tmp_path / "none.tar")
    assert import_runs(store, tmp_path / "none.tar") == Imported((), ())


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), max_size=3), ending=st.sampled_from([".tar", ".tar.gz"]))
def test_weights_of_any_size_go_out_and_come_in(tmp_path_factory, sizes, ending):
    folder = tmp_path_factory.mktemp("sizes")
    source, target = Store(folder / "source"), Store(folder / "target")
    for number, size in enumerate(sizes):
        save_small(source, number, content=b"w" * size)
    export_runs(source, source.run_keys(), folder / f"runs{ending}")
    import_runs(target, folder / f"runs{ending}")
    assert contents(target.root / "runs") == contents(source.root / "runs")


def swap(contents_):
    contents_[1], contents_[2] = contents_[2], contents_[1]


def change(name, content):
    """Puts other bytes under a member's name."""

    def edit(contents_):
        at = [header.name for header, _ in contents_].index(name)
        contents_[at] = member(name, content)

    return edit


def replace(name, **other):
    """Puts something that is no plain file under a member's name."""

    def edit(contents_):
        at = [header.name for header, _ in contents_].index(name)
        contents_[at] = member(name, **other)

    return edit


def rename(old, new):
    def edit(contents_):
        for header, _ in contents_:
            header.name = header.name.replace(old, new)

    return edit


def another_key(contents_):
    change("archive.json", index([key_of(9)]))(contents_)
    rename(key_of(1), key_of(9))(contents_)


def claim_to_have(size):
    def edit(contents_):
        contents_[4] = (member(f"{RUN}/weights.safetensors", b"x" * size)[0], b"x" * size)

    return edit


def index(keys, form=1):
    return json.dumps({"format": form, "runs": keys}).encode()


WEIGHTS = f"{RUN}/weights.safetensors"
BAD = {
    "a way out of the folder": (rename(WEIGHTS, f"runs/{key_of(1)}/../../../x"), "'runs/.*/x' is in its place"),
    "an absolute name": (rename(WEIGHTS, "/tmp/weights"), "'/tmp/weights' is in its place"),
    "a file of the run twice": (lambda c: c.insert(2, c[1]), "manifest.json' is in its place"),
    "the run twice": (lambda c: c.extend(c[1:]), "must be from 1024 to 10752 zeros"),
    "one more file": (lambda c: c.append(member("runs/extra", b"x")), "must be from 1024 to 10752 zeros"),
    "one file less": (lambda c: c.pop(2), "history.csv' is in its place"),
    "no weights": (lambda c: c.pop(), "is missing"),
    "another order": (swap, "measurements.json' is in its place"),
    "no index": (lambda c: c.pop(0), "'archive.json': is missing"),
    "a link in place of the weights": (replace(WEIGHTS, kind=tarfile.SYMTYPE, link="/etc/passwd"), "type b'2'"),
    "a hard link": (replace(WEIGHTS, kind=tarfile.LNKTYPE, link=f"{RUN}/manifest.json"), "type b'1'"),
    "a device": (replace(WEIGHTS, kind=tarfile.CHRTYPE), "type b'3'"),
    "a pipe": (replace(WEIGHTS, kind=tarfile.FIFOTYPE), "type b'6'"),
    "a folder": (replace(WEIGHTS, kind=tarfile.DIRTYPE), "is in its place|type b'5'"),
    "a sparse file": (replace(WEIGHTS, kind=tarfile.GNUTYPE_SPARSE), "type b'S'"),
    "other weights": (change(WEIGHTS, b"WEIGHTS"), f"{RUN}/weights.safetensors: its hash is not the one in manifest"),
    "weights of another size": (claim_to_have(8), "has 8 bytes, but measurements.json says 7"),
    "other measurements": (change(f"{RUN}/measurements.json", b'{"bytes": 7}'), "measurements.json: its hash"),
    "measurements that are none": (change(f"{RUN}/measurements.json", b"[" * 100_000), "measurements.json says None"),
    "another history": (change(f"{RUN}/history.csv", b"epoch"), "history.csv: its hash"),
    "a foreign manifest": (change(f"{RUN}/manifest.json", b'{"version": 3}'), "is not a whole run"),
    "a manifest of another run": (another_key, f"is not a format 1 manifest of run {key_of(9)[:12]}"),
    "a huge manifest": (change(f"{RUN}/manifest.json", b" " * (2**20 + 1)), "must have at most 1048576"),
    "an index of another format": (change("archive.json", index([key_of(1)], 2)), "must be a format 1 list of keys"),
    "an index that is no JSON": (change("archive.json", b"runs"), "must be a format 1 list of keys"),
    "an index of nothing": (change("archive.json", b"null"), "must be a format 1 list of keys"),
    "an index without a list": (change("archive.json", index(7)), "must be a format 1 list of keys"),
    "a key that leads elsewhere": (change("archive.json", index(["../" * 21 + "x"])), "must be a format 1 list"),
    "a key twice": (change("archive.json", index([key_of(1)] * 2)), "must be a format 1 list of keys"),
    "keys in another order": (change("archive.json", index([key_of(2), key_of(1)])), "must be a format 1 list"),
    "a key without a run": (
        change("archive.json", index([key_of(1), key_of(2)])),
        f"{key_of(2)}/manifest.json': is mis",
    ),
}


@pytest.mark.parametrize(("edit", "message"), BAD.values(), ids=BAD)
def test_a_bad_archive_is_named_with_its_member_and_brings_nothing(store, tmp_path, edit, message):
    parts = members(archive_of(tmp_path, [1]))
    edit(parts)
    archive = write_archive(tmp_path / "bad.tar", parts)
    before = contents(tmp_path)
    with pytest.raises(ArchiveError, match=message) as caught:
        import_runs(store, archive)
    assert str(caught.value).startswith(f"archive {archive}, member '")
    assert str(caught.value).endswith("; nothing was imported")
    assert ".partial" not in str(caught.value)
    assert contents(tmp_path) == before
    assert list((store.root / "runs").iterdir()) == []


def test_a_good_run_before_a_bad_one_is_not_taken_either(store, tmp_path):
    parts = members(archive_of(tmp_path, [1, 2]))
    change(f"runs/{key_of(2)}/weights.safetensors", b"WEIGHTS")(parts)
    with pytest.raises(ArchiveError, match=f"runs/{key_of(2)}/weights.safetensors: its hash"):
        import_runs(store, write_archive(tmp_path / "bad.tar", parts))
    assert store.run_keys() == []


@pytest.mark.parametrize(("form", "name"), [(tarfile.PAX_FORMAT, "@PaxHeader"), (tarfile.GNU_FORMAT, "@LongLink")])
def test_extended_headers_are_refused_unread(store, tmp_path, form, name):
    parts = members(archive_of(tmp_path, [1]))
    rename("weights.safetensors", "w" * 300)(parts)
    with pytest.raises(ArchiveError, match=f"weights.safetensors': is missing, '././{name}' is in its place"):
        import_runs(store, write_archive(tmp_path / "long.tar", parts, form))


def test_a_member_is_refused_by_the_size_that_it_claims_before_it_is_read(store, tmp_path):
    header = tarfile.TarInfo("archive.json")
    header.size = 2**32
    (tmp_path / "bomb.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(ArchiveError, match=f"has {2**32} bytes, must have at most {2**24}"):
        import_runs(store, tmp_path / "bomb.tar")


def test_a_bomb_behind_the_end_is_not_blown_up(store, tmp_path):
    whole = archive_of(tmp_path, [1]).read_bytes()
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(whole) + gzip.compress(bytes(2**24)))
    with pytest.raises(ArchiveError, match="'end of the archive': must be from 1024 to 10752 zeros"):
        import_runs(store, tmp_path / "bomb.tar.gz")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x1f\x8b", b"\x1f\x8b" + bytes(100), b"PK\3\4" + bytes(600), bytes(10240)]
)
def test_what_is_no_archive_is_one_clear_error(store, tmp_path, content):
    (tmp_path / "odd.tar").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"odd.tar, member 'archive.json': (is|cannot)"):
        import_runs(store, tmp_path / "odd.tar")


def test_an_archive_that_is_not_there_is_one_clear_error(store, tmp_path):
    with pytest.raises(ArchiveError, match=r"none.tar: cannot be read \(No such file or directory\)"):
        import_runs(store, tmp_path / "none.tar")
    with pytest.raises(ArchiveError, match=r"cannot be read \(Is a directory\)"):
        import_runs(store, tmp_path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a plain and of a compressed archive, and the files that they bring."""
    folder = tmp_path_factory.mktemp("sound")
    plain, compressed = (archive_of(folder, [1, 2], name).read_bytes() for name in ("runs.tar", "runs.tar.gz"))
    return plain, compressed, contents(folder / "source" / "runs")


@settings(max_examples=50, deadline=None)
@given(compressed=st.booleans(), data=st.data())
def test_an_archive_cut_short_anywhere_is_refused(sound, tmp_path_factory, compressed, data):
    whole = sound[compressed]
    # A plain one ends in zeros, of which two blocks suffice.
    last = len(whole) - 1 if compressed else len(whole.rstrip(b"\0"))
    folder = tmp_path_factory.mktemp("cut")
    (folder / "cut.tar").write_bytes(whole[: data.draw(st.integers(0, last))])
    with pytest.raises(ArchiveError, match="nothing was imported"):
        import_runs(Store(folder / "store"), folder / "cut.tar")
    assert contents(folder / "store" / "runs") == {}


@settings(max_examples=50, deadline=None)
@given(compressed=st.booleans(), data=st.data())
def test_a_flipped_bit_is_found_or_says_nothing(sound, tmp_path_factory, compressed, data):
    changed = bytearray(sound[compressed])
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "flipped.tar").write_bytes(changed)
    try:
        import_runs(Store(folder / "store"), folder / "flipped.tar")
    except ArchiveError:
        assert contents(folder / "store" / "runs") == {}
    else:
        # Bytes of a header that no rule reads, such as gzip's time of writing.
        assert contents(folder / "store" / "runs") == sound[2]


def test_a_store_that_cannot_be_written_is_one_clear_error(store, tmp_path):
    archive = archive_of(tmp_path, [1])
    with (
        read_only(tmp_path) as here,
        pytest.raises(StoreError, match=r"run store store: cannot write a run \(Permission denied\)"),
    ):
        import_runs(Store(here / "store"), here / archive.name)
    assert store.run_keys() == []


IMPORTING = """
import sys
from pathlib import Path
from pytest_claims.store.archive_import import import_runs
from pytest_claims.store import Store

import_runs(Store(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_killed_import_leaves_nothing_that_is_read_and_what_can_be_removed(store, tmp_path):
    archive = archive_of(tmp_path, [1, 2])
    with tarfile.open(archive) as tar:
        *_, weights = tar.getmembers()
    pipe = tmp_path / "pipe.tar"
    os.mkfifo(pipe)
    with start(IMPORTING, store.root, pipe) as process, pipe.open("wb", buffering=0) as writer:
        writer.write(archive.read_bytes()[: weights.offset])
        deadline = time.monotonic() + 600
        while not any((store.root / "runs").glob(f".partial-*/{key_of(2)}/history.csv")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert abandoned(store.root / "runs") == []
        process.kill()
        process.wait(timeout=600)
    assert store.run_keys() == []
    assert store.load(key_of(1)) is None
    assert len(abandoned(store.root / "runs")) == 1
    assert import_runs(store, tmp_path / "runs.tar").new == (key_of(1), key_of(2))


def test_the_archive_of_another_program_is_refused(store, tmp_path):
    archive_of(tmp_path, [1])
    with tarfile.open(tmp_path / "other.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(tmp_path / "source" / "runs", "runs")
    with pytest.raises(ArchiveError, match=r"'archive.json': is missing, 'runs' is in its place"):
        import_runs(store, tmp_path / "other.tar")


def test_a_member_between_blocks_that_is_padded_with_data_is_refused(store, tmp_path):
    whole = bytearray(archive_of(tmp_path, [1]).read_bytes())
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        last = tar.getmember(f"{RUN}/weights.safetensors")
    whole[last.offset_data + last.size] = 1
    (tmp_path / "padded.tar").write_bytes(whole)
    with pytest.raises(ArchiveError, match=r"weights.safetensors': is padded with something else than zeros"):
        import_runs(store, tmp_path / "padded.tar")
