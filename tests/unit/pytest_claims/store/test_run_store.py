import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import read_only, start

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import (
    HISTORY,
    MANIFEST,
    MEASUREMENTS,
    WEIGHTS,
    DamagedRunError,
    Failure,
    Store,
    StoreError,
    read_run,
    run_files,
    stored_run,
)
from pytest_claims.store import run_store as store_module

KEY = "0123456789abcdef" * 4
OTHER = "f" * 64
MEASURED = {"accuracy": 78.16, "parameters": 256779}
EPOCHS = "epoch,accuracy\n1,78.16\n"
PROVENANCE = {"name": "student-scratch", "seed": 3, "parents": {"teacher": "ab"}, "recipe": [1, None, {"a": 0.1}]}
CONTENT = b"the weights' bytes"


def save(store, key=KEY, measurements=MEASURED, content=CONTENT):
    return store.save(key, lambda path: path.write_bytes(content), measurements, EPOCHS, PROVENANCE)


@pytest.fixture
def messages():
    return []


@pytest.fixture
def store(tmp_path, messages):
    return Store(tmp_path / "store", messages.append)


def test_a_run_comes_back_as_it_was_saved(store):
    saved = save(store)
    loaded = Store(store.root).load(KEY)
    assert loaded == saved
    assert loaded.key == KEY
    assert loaded.measurements == {**MEASURED, "bytes": len(CONTENT)}
    assert loaded.provenance == PROVENANCE
    assert loaded.weights.read_bytes() == CONTENT
    assert (loaded.folder / HISTORY).read_text("utf-8") == EPOCHS
    assert {path.name for path in loaded.folder.iterdir()} == {WEIGHTS, MEASUREMENTS, HISTORY, MANIFEST}


def test_a_run_goes_whole_from_one_store_to_another(store, tmp_path):
    saved = save(store)
    other = Store(tmp_path / "other")
    added = other.add(KEY, run_files(saved))
    assert added.folder == other.root / "runs" / KEY
    assert (added.measurements, added.provenance) == (saved.measurements, saved.provenance)
    assert run_files(other.load(KEY)) == run_files(saved)


def test_a_run_that_is_there_is_not_replaced_by_one_that_is_added(store, tmp_path):
    saved = save(store)
    other = Store(tmp_path / "other")
    there = save(other, content=b"other bytes")
    assert other.add(KEY, run_files(saved)) == there
    assert there.weights.read_bytes() == b"other bytes"


ALTERATIONS = {
    "changed weights": lambda files: {**files, WEIGHTS: CONTENT[::-1]},
    "cut weights": lambda files: {**files, WEIGHTS: CONTENT[:-1]},
    "changed manifest": lambda files: {**files, MANIFEST: files[MANIFEST].replace(b'"seed": 3', b'"seed": 4')},
    "no manifest": lambda files: {name: content for name, content in files.items() if name != MANIFEST},
    "one file more": lambda files: {**files, "../../escaped": b""},
    "no bytes": lambda files: dict.fromkeys(files, b""),
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_what_is_no_whole_run_is_not_added(store, tmp_path, alter):
    other = Store(tmp_path / "other")
    files = run_files(save(store))
    altered = alter(files)
    assert altered != files
    with pytest.raises(DamagedRunError):
        other.add(KEY, altered)
    assert list((other.root / "runs").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "store"]


def test_a_run_is_not_added_under_the_key_of_another(store, tmp_path):
    other = Store(tmp_path / "other")
    with pytest.raises(DamagedRunError, match=rf"is not a format 1 manifest of run {KEY[::-1][:12]}"):
        other.add(KEY[::-1], run_files(save(store)))
    assert list((other.root / "runs").iterdir()) == []


def test_what_was_never_saved_is_not_there(store, messages):
    save(store)
    assert store.load("f" * 64) is None
    assert messages == []
    with pytest.raises(FileNotFoundError):
        read_run(store.root / "runs" / "f", "f")


def test_the_same_run_has_the_same_files(tmp_path):
    folders = [save(Store(tmp_path / name)).folder for name in "ab"]
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second


def test_a_run_that_is_there_is_kept(store, messages):
    first = save(store)
    assert save(store, measurements={"accuracy": 1.0}) == first
    assert messages == []


def edit_manifest(**changes):
    def damage(folder):
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}), "utf-8")

    return damage


def edit_listed_files(change):
    def damage(folder):
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        change(manifest["files"])
        (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")

    return damage


def replace_manifest(content):
    return lambda folder: (folder / MANIFEST).write_bytes(content)


def into_folder(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def into_file(folder):
    shutil.rmtree(folder)
    folder.write_text("not a folder", "utf-8")


def without_provenance(folder):
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    del manifest["provenance"]
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")


DAMAGES = {
    "empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
    "a file in its place": into_file,
    "weights are a folder": into_folder,
    "manifest of another run": edit_manifest(key="f" * 64),
    "manifest of another format": edit_manifest(format=2),
    "manifest with another seed": edit_manifest(provenance={**PROVENANCE, "seed": 4}),
    "manifest without its hash": edit_manifest(hash=None),
    "manifest with one more field": edit_manifest(comment="good"),
    "manifest with no files": edit_manifest(files={}),
    "manifest with files as a list": edit_manifest(files=[HISTORY, MEASUREMENTS, WEIGHTS]),
    "manifest with one more file": edit_listed_files(lambda files: files.update({"../x": "0" * 64})),
    "manifest with a file less": edit_listed_files(lambda files: files.pop(HISTORY)),
    "manifest with another hash": edit_listed_files(lambda files: files.update({WEIGHTS: "0" * 64})),
    "manifest with a number for a hash": edit_listed_files(lambda files: files.update({WEIGHTS: 1})),
    "manifest without provenance": without_provenance,
    "a list as manifest": replace_manifest(b"[]"),
    "null as manifest": replace_manifest(b"null"),
    "a string as manifest": replace_manifest(b'"format"'),
    "an empty object as manifest": replace_manifest(b"{}"),
    "not JSON as manifest": replace_manifest(b"{'format': 1}"),
    "not UTF-8 as manifest": replace_manifest(b"\xff\xfe{}"),
    "a deep nest as manifest": replace_manifest(b"[" * 200_000),
}
for each in (WEIGHTS, MEASUREMENTS, HISTORY, MANIFEST):
    DAMAGES |= {
        f"{each} missing": lambda folder, name=each: (folder / name).unlink(),
        f"{each} empty": lambda folder, name=each: (folder / name).write_bytes(b""),
        f"{each} cut short": lambda folder, name=each: (folder / name).write_bytes((folder / name).read_bytes()[:-5]),
        f"{each} longer": lambda folder, name=each: (folder / name).write_bytes((folder / name).read_bytes() + b"0"),
    }


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_set_aside_told_of_and_made_again(store, messages, damage):
    folder = save(store).folder
    damage(folder)
    assert store.load(KEY) is None
    assert not folder.exists()
    assert [path.name.partition("-")[0] for path in (store.root / "set-aside").iterdir()] == [KEY]
    assert len(messages) == 1
    assert KEY[:12] in messages[0]
    assert "set aside" in messages[0]
    assert store.load(KEY) is None
    assert len(messages) == 1
    assert save(store).measurements["accuracy"] == MEASURED["accuracy"]
    assert store.load(KEY) is not None


def test_saving_over_a_damaged_run_makes_it_whole(store, messages):
    folder = save(store).folder
    (folder / WEIGHTS).write_bytes(b"x")
    assert save(store).weights.read_bytes() == CONTENT
    assert len(messages) == 1


def test_the_damaged_file_is_named(store):
    folder = save(store).folder
    (folder / HISTORY).write_text("epoch\n", "utf-8")
    with pytest.raises(DamagedRunError) as caught:
        read_run(folder, KEY)
    assert str(folder / HISTORY) in str(caught.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return save(Store(tmp_path_factory.mktemp("sound")))


@st.composite
def edits(draw):
    """Bytes of a file turned into others, put in or taken out."""
    kind = draw(st.sampled_from(["change", "insert", "delete"]))
    places = draw(st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=3))

    def edit(content):
        changed = bytearray(content)
        for place, mask in places:
            at = place % len(changed)
            if kind == "change":
                changed[at] ^= mask
            elif kind == "insert":
                changed.insert(at, mask)
            else:
                del changed[at]
        return bytes(changed)

    return edit


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from([WEIGHTS, MEASUREMENTS, HISTORY, MANIFEST]), edit=edits())
def test_no_edited_byte_gives_wrong_data(sound, tmp_path_factory, name, edit):
    store = Store(tmp_path_factory.mktemp("edited"))
    folder = store.root / "runs" / KEY
    shutil.copytree(sound.folder, folder)
    (folder / name).write_bytes(edit((folder / name).read_bytes()))
    loaded = store.load(KEY)
    if loaded is not None:
        assert (loaded.measurements, loaded.provenance) == (sound.measurements, sound.provenance)
        assert loaded.weights.read_bytes() == CONTENT
        assert (loaded.folder / HISTORY).read_text("utf-8") == EPOCHS


def test_nothing_is_seen_of_a_run_that_is_being_written(store):
    def write(path):
        path.write_bytes(CONTENT)
        assert store.load(KEY) is None
        assert not (path.parent / MANIFEST).exists()
        # As after a kill: a whole copy, but under its temporary name.
        shutil.copytree(path.parent, path.parent.with_name(".partial-left-behind"))

    store.save(KEY, write, MEASURED, EPOCHS, PROVENANCE)
    assert {path.name for path in (store.root / "runs").iterdir()} == {KEY, ".partial-left-behind"}


def test_a_left_behind_partial_folder_is_never_read(store):
    folder = save(store).folder
    folder.rename(folder.with_name(".partial-whole"))
    assert store.load(KEY) is None
    assert save(store).folder == folder


def test_a_failed_write_leaves_nothing(store):
    def write(path):
        path.write_bytes(b"half")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.save(KEY, write, MEASURED, EPOCHS, PROVENANCE)
    assert list((store.root / "runs").iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_measurement_that_is_not_finite_is_refused(store, value):
    with pytest.raises(StoreError, match=f"run 0123456789ab: measurement loss is {value}, must be finite"):
        save(store, measurements={"accuracy": 1.0, "loss": value})
    assert list((store.root / "runs").iterdir()) == []


def test_a_full_disk_is_one_clear_error(store):
    def write(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError) as caught:
        store.save(KEY, write, MEASURED, EPOCHS, PROVENANCE)
    assert str(caught.value) == f"run store {store.root}: cannot write a run (No space left on device)"


@pytest.mark.parametrize("place", ["", "runs", "failed", "locks"])
def test_a_store_with_a_file_in_its_place_is_one_clear_error(tmp_path, place):
    root = tmp_path / "store"
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text("a file", "utf-8")
    with pytest.raises(StoreError, match=r"run store .*store: cannot be created \(.+\)"):
        Store(root)


def test_a_store_that_vanishes_is_one_clear_error(store):
    shutil.rmtree(store.root)
    with pytest.raises(StoreError, match=r"run store .*store: cannot write a run \(No such file or directory\)"):
        save(store)


def test_a_failure_comes_back_until_it_is_forgotten(store):
    failure = Failure("student (seed 1)", "loss is nan: épuisé", "Traceback\n  …")
    assert store.failure(KEY) is None
    store.record_failure(KEY, failure)
    assert Store(store.root).failure(KEY) == failure
    second = Failure("student (seed 1)", "again", "")
    store.record_failure(KEY, second)
    assert store.failure(KEY) == second
    assert store.failure("f" * 64) is None
    store.forget_failure(KEY)
    store.forget_failure(KEY)
    assert store.failure(KEY) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"1", b'{"name": "a"}', b"\xff", b"{", b"[" * 200_000])
def test_a_damaged_tombstone_counts_as_none(store, content):
    store.record_failure(KEY, Failure("a", "b", "c"))
    (tombstone,) = (store.root / "failed").iterdir()
    tombstone.write_bytes(content)
    assert store.failure(KEY) is None
    assert not tombstone.exists()
    store.record_failure(KEY, Failure("a", "b", "c"))
    assert store.failure(KEY) == Failure("a", "b", "c")


def test_a_tombstone_that_cannot_be_read_stays_and_counts_as_none(store, monkeypatch):
    failure = Failure("a", "b", "c")
    store.record_failure(KEY, failure)

    def busy(path, encoding):
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", busy)
        assert store.failure(KEY) is None
    assert store.failure(KEY) == failure


def test_threads_that_save_one_run_at_once_get_one_run(tmp_path):
    barrier = threading.Barrier(3)

    class Racing(Store):
        raced = False

        def load(self, key):
            """Lets all threads see that the run is missing before any puts it there."""
            found = super().load(key)
            if not self.raced:
                self.raced = True
                barrier.wait(timeout=600)
            return found

    results = []
    stores = [Racing(tmp_path) for _ in range(3)]
    threads = [threading.Thread(target=lambda s=store: results.append(save(s))) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert results[0] == results[1] == results[2]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [KEY]
    assert not (tmp_path / "set-aside").exists()


FULL_DISK = f"""
import resource, sys
from pathlib import Path
from pytest_claims.store import Failure, Store, StoreError

store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

def told(what):
    try:
        what()
    except StoreError as error:
        print(error)

def save(size, history=""):
    return store.save({KEY!r}, lambda path: path.write_bytes(b"w" * size), {{"a": 1.0}}, history, {{}})

told(lambda: save(5000))
told(lambda: save(10, "e" * 5000))
told(lambda: store.record_failure({KEY!r}, Failure("name", "message", "t" * 5000)))
save(10)
store.record_failure({KEY!r}, Failure("name", "message", "t" * 10))
"""


def test_a_disk_that_takes_no_more_is_one_clear_error_each_and_leaves_nothing_half_written(tmp_path):
    store = Store(tmp_path / "store")
    with run_script(FULL_DISK, store.root) as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert output.splitlines() == [
        f"run store {store.root}: cannot write a run (File too large)",
        f"run store {store.root}: cannot write a run (File too large)",
        f"{store.root / 'failed' / KEY}.json: cannot be written (File too large)",
    ]
    assert store.load(KEY).weights.read_bytes() == b"w" * 10
    assert store.failure(KEY).traceback == "t" * 10
    assert [path.name for folder in ("runs", "failed") for path in (store.root / folder).iterdir()] == [
        KEY,
        f"{KEY}.json",
    ]


def test_a_read_only_store_can_be_read_and_says_in_one_line_what_cannot_be_done(store):
    saved, failure = save(store), Failure("a", "b", "c")
    store.record_failure(OTHER, failure)
    messages = []
    with read_only(store.root) as root:
        denied = Store(root, messages.append)
        assert denied.load(KEY).measurements == saved.measurements
        assert denied.failure(OTHER) == failure
        assert (denied.run_keys(), denied.failed_keys()) == ([KEY], [OTHER])
        assert denied.load(OTHER) is None
        assert denied.failure(KEY) is None
        for attempt, message in (
            (lambda: denied.save(OTHER, lambda path: None, {}, "", {}), "run store .: cannot write a run"),
            (lambda: denied.record_failure(KEY, failure), f"failed/{KEY}.json: cannot be written"),
            (lambda: denied.forget_failure(OTHER), f"failed/{OTHER}.json: cannot be removed"),
            (denied.check_writable, "run store .: cannot be written to"),
        ):
            with pytest.raises(StoreError) as caught:
                attempt()
            assert str(caught.value) == f"{message} (Permission denied)"
    assert messages == []


def test_what_is_damaged_in_a_read_only_store_counts_as_missing_and_is_told_of(store):
    (save(store).folder / WEIGHTS).write_bytes(b"x")
    (store.root / "failed" / f"{KEY}.json").write_text("half")
    messages = []
    with read_only(store.root) as root:
        denied = Store(root, messages.append)
        assert denied.load(KEY) is None
        assert denied.failure(KEY) is None
    (message,) = messages
    assert f"{KEY}/{WEIGHTS}: its hash is not the one in" in message
    assert "cannot be set aside, counts as missing" in message
    assert (store.root / "runs" / KEY).is_dir()


@pytest.mark.parametrize("missing", ["failed", "locks"])
def test_a_read_only_store_may_lack_what_only_writing_needs(store, missing):
    save(store)
    shutil.rmtree(store.root / missing)
    with read_only(store.root) as root:
        denied = Store(root)
        assert denied.load(KEY).key == KEY
        assert denied.failure(KEY) is None
        assert denied.failed_keys() == []


def test_a_store_that_cannot_be_made_is_one_clear_error(tmp_path):
    with (
        read_only(tmp_path) as root,
        pytest.raises(StoreError, match=r"run store store: cannot be created \(Permission denied\)"),
    ):
        Store(root / "store")


def test_a_store_that_can_be_written_to_is_left_as_it_was(store):
    save(store)
    before = sorted(store.root.rglob("*"))
    store.check_writable()
    assert sorted(store.root.rglob("*")) == before


def test_keys_are_told_without_what_is_only_temporary(store):
    assert (store.run_keys(), store.failed_keys()) == ([], [])
    save(store, OTHER)
    save(store)
    store.record_failure(KEY, Failure("a", "b", "c"))
    (store.root / "runs" / ".partial-x").mkdir()
    (store.root / "failed" / ".partial-x").touch()
    assert (store.run_keys(), store.failed_keys()) == ([KEY, OTHER], [KEY])
    shutil.rmtree(store.root / "runs")
    assert store.run_keys() == []


def test_what_another_process_made_anew_is_not_set_aside_in_its_turn(store, messages):
    """As when two find a run damaged, and the first sets it aside and makes it again before the second moves it."""
    found = threading.Event()

    class Telling(Store):
        def _placing(self):
            found.set()
            return super()._placing()

    (save(store).folder / WEIGHTS).write_bytes(b"x")
    made = save(Store(store.root.with_name("elsewhere")))
    second, loaded = Telling(store.root, messages.append), []
    with store.lock("placing"):
        thread = threading.Thread(target=lambda: loaded.append(second.load(KEY)))
        thread.start()
        assert found.wait(600)
        shutil.rmtree(store.root / "runs" / KEY)
        made.folder.rename(store.root / "runs" / KEY)
    thread.join(600)
    assert [(run.key, run.measurements) for run in loaded] == [(KEY, made.measurements)]
    assert messages == []
    assert not (store.root / "set-aside").exists()


def test_a_folder_that_is_no_whole_run_is_not_published(store):
    folder = save(Store(store.root.with_name("other"))).folder
    (folder / WEIGHTS).write_bytes(b"x")
    with pytest.raises(DamagedRunError):
        store.publish(folder, KEY)
    assert store.run_keys() == []


def test_a_place_that_is_taken_for_good_is_one_clear_error(store):
    (store.root / "runs" / KEY).write_text("a file")
    (store.root / "set-aside").write_text("in the way of setting it aside")
    with pytest.raises(StoreError, match=f"cannot write a run .*run {KEY[:12]} is damaged and cannot be set aside"):
        save(store)


HAMMER = """
import os, random, shutil, sys
from pathlib import Path
from pytest_claims.store import Store

root, number = Path(sys.argv[1]), int(sys.argv[2])
store, chance = Store(root), random.Random(number)

def cut(path): os.truncate(path, 3)
def grow(path): path.open("ab").write(b"more")
def lose(path): path.unlink()
def become_a_folder(path): path.unlink(); path.mkdir()
def gain_a_neighbour(path): path.with_name("extra").touch()
def lose_all(path): shutil.rmtree(path.parent)

for _ in range(25):
    key = f"{chance.randrange(3):064x}"
    action = chance.choice(["save", "load", "damage"])
    if action == "save":
        run = store.save(key, lambda path: path.write_bytes(key.encode()), {"accuracy": 1.0}, "epoch\\n", {"key": key})
        assert run.key == run.provenance["key"] == key
    elif action == "load":
        run = store.load(key)
        assert run is None or (run.key, run.provenance, run.measurements["accuracy"]) == (key, {"key": key}, 1.0)
    else:
        name = chance.choice(["weights.safetensors", "measurements.json", "history.csv", "manifest.json"])
        try:
            chance.choice([cut, grow, lose, become_a_folder, gain_a_neighbour, lose_all])(root / "runs" / key / name)
        except OSError:
            pass  # it is not there, or another has just damaged it
"""


def test_eight_processes_that_save_load_and_damage_the_same_runs_do_not_err(tmp_path):
    store = Store(tmp_path)
    processes = [start(HAMMER, tmp_path, number) for number in range(8)]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert errors == [""] * 8
    assert [process.returncode for process in processes] == [0] * 8
    for number in range(3):
        key = f"{number:064x}"
        run = store.save(
            key, lambda path, key=key: path.write_bytes(key.encode()), {"accuracy": 1.0}, "epoch\n", {"key": key}
        )
        assert store.load(key) == run
        assert run.weights.read_bytes() == key.encode()
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name.startswith(".")] == []
    set_aside = list((tmp_path / "set-aside").iterdir())
    assert set_aside
    for folder in set_aside:
        with pytest.raises(DamagedRunError):
            read_run(folder, folder.name[:64])


def run_script(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


SAVING = f"""
import sys
from pathlib import Path
from pytest_claims.store import Store

for number in range(20):
    run = Store(Path(sys.argv[1])).save(f"{{number}}", lambda p: p.write_bytes({CONTENT!r}), {{"a": 1.0}}, "", {{}})
    assert run.weights.read_bytes() == {CONTENT!r}
"""


def test_processes_that_save_the_same_runs_at_once_get_them_all(tmp_path):
    processes = [run_script(SAVING, tmp_path) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=600)
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(map(str, range(20)))
    assert not (tmp_path / "set-aside").exists()


def test_a_damaged_run_that_another_process_set_aside_first_is_not_there(store, monkeypatch):
    def read_then_lose(folder, key):
        raise DamagedRunError(f"{folder}: gone meanwhile")

    monkeypatch.setattr(store_module, "read_run", read_then_lose)
    assert store.load(KEY) is None


def test_a_lock_excludes_every_other_holder_of_the_same_run(store):
    other = Store(store.root)
    with store.lock(KEY):
        with pytest.raises(filelock.Timeout):
            other.lock(KEY).acquire(blocking=False)
        with other.lock("f" * 64).acquire(blocking=False):
            pass
    with other.lock(KEY).acquire(blocking=False):
        pass


HOLDING = """
import sys
from pathlib import Path
from pytest_claims.store import Store

with Store(Path(sys.argv[1])).lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_frees_its_lock(store):
    with run_script(HOLDING, store.root, KEY) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(filelock.Timeout):
            store.lock(KEY).acquire(blocking=False)
        process.kill()
        process.wait(timeout=600)
        with store.lock(KEY).acquire(timeout=600):
            pass


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_run_that_cannot_be_read_now_is_kept(store, monkeypatch, code):
    saved = save(store)

    def refuse(path):
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(stored_run, "file_hash", refuse)
        with pytest.raises(StoreError, match=f"cannot be read .{os.strerror(code)}"):
            store.load(KEY)
    assert store.load(KEY) == saved
