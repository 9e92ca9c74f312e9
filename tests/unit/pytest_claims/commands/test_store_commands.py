import json
import re

import pytest
from small_runs import contents, key_of, read_only, save_small

from pytest_claims.commands.command_line import main
from pytest_claims.store import Failure, Store
from pytest_claims.store.stored_run import MANIFEST, WEIGHTS


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    save_small(store, 1, name="teacher", profile="quick")
    save_small(store, 2, name="student", profile="quick", seed=3, parents={"teacher": key_of(1)})
    return store


@pytest.fixture
def call(store, capsys):
    """Runs a command on the store; status and lines of both outputs."""

    def called(command, *arguments, root=store.root):
        status = main(["store", command, "--store-dir", str(root), *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out.splitlines(), shown.err.splitlines()

    return called


def test_list_has_a_row_for_each_run(call, store):
    store.record_failure(key_of(3), Failure("cnn (seed 0)", "cnn (seed 0): ValueError: loss is nan", "Traceback"))
    status, lines, errors = call("list")
    assert (status, errors) == (0, [])
    assert lines[0].split() == ["profile", "name", "seed", "accuracy", "bytes", "seconds", "finished", "key"]
    assert lines[1].split() == ["quick", "student", "3", "72.00", "7", "12.3", "2026-01-02T03:04:05", key_of(2)[:12]]
    assert lines[2].split() == ["quick", "teacher", "0", "71.00", "7", "12.3", "2026-01-02T03:04:05", key_of(1)[:12]]
    assert lines[3:] == [
        f"failed {key_of(3)[:12]} cnn (seed 0): ValueError: loss is nan",
        "2 finished runs (14 bytes), 1 failed",
    ]


def test_list_tells_of_damage(call, store):
    (store.folder(key_of(1)) / MANIFEST).unlink()
    status, lines, _ = call("list")
    assert status == 0
    assert lines[-2].startswith("damaged ")
    assert lines[-1] == "1 finished runs (7 bytes), 0 failed, 1 damaged: see `store verify`"


def test_list_of_a_run_that_tells_little(call, store):
    store.save(key_of(0), lambda path: path.write_bytes(b"w"), {}, "", {})
    _, lines, _ = call("list")
    assert lines[1].split() == ["-", "-", "-", "-", "1", "-", "-", key_of(0)[:12]]


def test_list_shows_names_as_they_are(call, store):
    save_small(store, 5, name="[/bold] :smile:")
    assert "[/bold] :smile:" in call("list")[1][3]


def test_list_spells_out_what_would_steer_a_terminal_or_cannot_be_printed(call, store):
    told = {"name": "a\x1b[2Jb\nc\ud800", "seconds": 1.7e308}
    store.save(key_of(5), lambda path: path.write_bytes(b"w"), {}, "", told)
    _, lines, _ = call("list")
    (row,) = (line for line in lines if "x1b" in line)
    assert row.split() == ["-", r"a\x1b[2Jb\nc\ud800", "-", "-", "1", "-", "-", key_of(5)[:12]]


def test_list_for_programs(call, store):
    store.record_failure(key_of(3), Failure("cnn", "loss is nan", "Traceback"))
    status, lines, _ = call("list", "--json")
    listed = json.loads("\n".join(lines))
    assert status == 0
    assert [run["key"] for run in listed["runs"]] == [key_of(2), key_of(1)]
    assert listed["runs"][0]["measurements"] == {"accuracy": 72.0, "bytes": 7, "parameters": 4}
    assert listed["runs"][0]["parents"] == {"teacher": key_of(1)}
    assert listed["failed"] == [{"key": key_of(3), "name": "cnn", "message": "loss is nan"}]
    assert listed["damaged"] == {}


@pytest.mark.parametrize("command", ["list", "verify", "gc", "export"])
def test_a_store_that_is_not_there_is_not_made(call, tmp_path, command):
    arguments = [tmp_path / "runs.tar"] if command == "export" else []
    status, lines, errors = call(command, *arguments, root=tmp_path / "typo")
    assert (status, lines) == (2, [])
    assert errors == [f"error: --store-dir {tmp_path / 'typo'}: is no run store; it has no folder runs/"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_verify_of_a_sound_store(call):
    assert call("verify") == (0, ["2 runs are whole, 0 problems"], [])


def test_verify_names_damage_and_ends_with_1_until_it_is_set_aside(call, store):
    (store.folder(key_of(1)) / WEIGHTS).write_bytes(b"x")
    (store.root / "runs" / ".partial-x").mkdir()
    status, lines, _ = call("verify")
    assert status == 1
    assert re.fullmatch(rf"damaged .*{key_of(1)}/{WEIGHTS}: its hash is not .*; set aside, .*", lines[0])
    assert lines[1] == "1 runs are whole, 1 problems"
    assert re.fullmatch(r"1 set aside \(.* bytes\): `store gc` removes them", lines[2])
    assert lines[3] == "1 left behind by killed processes (0 bytes): `store gc` removes them"
    assert call("verify")[0] == 0


def test_gc_shows_and_removes_only_with_yes(call, store):
    assert call("gc") == (0, ["nothing to remove"], [])
    left = store.root / "runs" / ".partial-x"
    left.mkdir()
    (left / "half").write_bytes(b"12345")
    shown = f"left behind {left} (5 bytes)"
    assert call("gc") == (0, [shown, "would remove 1 entries, 5 bytes; --yes does"], [])
    assert left.is_dir()
    assert call("gc", "--yes") == (0, [shown, "removed 1 entries, 5 bytes"], [])
    assert call("gc", "--yes") == (0, ["nothing to remove"], [])
    assert store.run_keys() == [key_of(1), key_of(2)]


def test_gc_leaves_tombstones_unless_asked(call, store):
    store.record_failure(key_of(3), Failure("a", "b", "c"))
    assert call("gc", "--yes")[1] == ["nothing to remove"]
    assert call("gc", "--failed", "--yes")[1][-1].startswith("removed 1 entries")
    assert store.failure(key_of(3)) is None


def test_gc_removes_what_no_kept_profile_reads(call, store):
    arguments = ["--unreachable", "--keep-profile", "tiny", "--seeds", "1"]
    status, lines, _ = call("gc", *arguments)
    assert (status, len(lines)) == (0, 3)
    assert [line.partition(" ")[0] for line in lines[:2]] == ["unreachable", "unreachable"]
    assert store.run_keys() == [key_of(1), key_of(2)]
    with store.lock(key_of(2)):
        _, lines, _ = call("gc", "--yes", *arguments)
    assert lines[1].startswith(f"unreachable {store.folder(key_of(2))}")
    assert "kept, " in lines[1]
    assert "held by process" in lines[1]
    assert lines[2].startswith("removed 1 entries")
    assert store.run_keys() == [key_of(2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unreachable"], "--unreachable: name with --keep-profile the profiles whose runs stay"),
        (["--keep-profile", "tiny"], "--keep-profile: says which runs are reachable"),
        (["--unreachable", "--keep-profile", "huge"], "--profile huge: there is none of this name"),
        (["--unreachable", "--keep-profile", "images"], "--profile images: needs --data-root"),
    ],
)
def test_gc_says_what_it_must_be_told(call, store, arguments, message):
    before = contents(store.root)
    status, lines, errors = call("gc", "--yes", *arguments)
    assert (status, lines, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"error: {message}")
    assert contents(store.root) == before


def test_what_cannot_be_removed_is_one_line_and_status_1(call, store):
    (store.root / "runs" / ".partial-x").mkdir()
    with read_only(store.root) as root:
        status, _, errors = call("gc", "--yes", root=root)
    assert (status, errors) == (1, ["error: runs/.partial-x: cannot be removed (Permission denied)"])


def test_runs_go_out_with_their_parents_and_come_in_elsewhere(call, store, tmp_path):
    archive = tmp_path / "runs.tar"
    status, lines, _ = call("export", archive, "student")
    assert (status, len(lines)) == (0, 1)
    assert lines[0].startswith(f"2 runs are in {archive} (")
    other = tmp_path / "other"
    assert call("import", archive, root=other) == (0, ["2 runs imported, 0 were there"], [])
    assert contents(other / "runs") == contents(store.root / "runs")
    assert call("import", archive, root=other) == (0, ["0 runs imported, 2 were there"], [])


def test_export_without_parents_and_of_a_run_whose_parent_is_gone(call, store, tmp_path):
    assert call("export", tmp_path / "a.tar", "student", "--without-parents")[1][0].startswith("1 runs are in")
    (store.folder(key_of(1)) / WEIGHTS).unlink()
    assert store.load(key_of(1)) is None
    status, lines, _ = call("export", tmp_path / "b.tar", "student")
    assert status == 0
    assert lines[0] == f"warning: run {key_of(1)[:12]}, from which others are made, is not in the store"
    assert lines[1].startswith("1 runs are in")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs.tar", "pupil"], "error: pupil: no finished run has this name, or a key that begins so"),
        (["runs.tar", "--profile", "tiny"], "error: tiny: no finished run is of this profile"),
        (["runs.zip"], "error: runs.zip: must end in .tar, .tar.gz, .tgz"),
    ],
)
def test_export_of_what_is_not_there(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert call("export", *arguments) == (2, [], [message])
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_empty_store_has_nothing_to_export(call, tmp_path):
    Store(tmp_path / "empty")
    status, _, errors = call("export", tmp_path / "runs.tar", root=tmp_path / "empty")
    assert (status, errors) == (2, [f"error: run store {tmp_path / 'empty'}: has no such run"])


def test_a_bad_archive_is_one_line_and_status_1(call, store, tmp_path):
    (tmp_path / "bad.tar").write_text("no archive")
    before = contents(store.root)
    status, lines, errors = call("import", tmp_path / "bad.tar")
    assert (status, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith(f"error: archive {tmp_path / 'bad.tar'}, member 'archive.json': is cut short")
    assert contents(store.root) == before
