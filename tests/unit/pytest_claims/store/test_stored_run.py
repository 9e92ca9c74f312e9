import hashlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import contents, key_of, save_small

from pytest_claims.store import Store
from pytest_claims.store.errors import DamagedRunError, StoreError
from pytest_claims.store.stored_run import (
    HISTORY,
    MANIFEST,
    MEASUREMENTS,
    WEIGHTS,
    RunSummary,
    read_run,
    read_summary,
    write_run,
)

KEY = key_of(1)
FILES = (WEIGHTS, MEASUREMENTS, HISTORY, MANIFEST)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def folder(store):
    return save_small(store, 1).folder


def write(folder, measurements):
    folder.mkdir(exist_ok=True)
    write_run(folder, KEY, lambda path: path.write_bytes(b"weights"), measurements, "epoch\n", {"seed": 1})


def test_a_summary_tells_what_the_run_tells(folder):
    run, summary = read_run(folder, KEY), read_summary(folder, KEY)
    assert summary == RunSummary(KEY, folder, run.measurements, run.provenance)
    assert summary.measurements == {"accuracy": 71.0, "parameters": 4, "bytes": 7}
    assert run.weights.read_bytes() == b"weights"


def test_what_is_not_there_is_no_damage(tmp_path):
    for read in (read_run, read_summary):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / KEY, KEY)


def test_a_summary_reads_no_weights_but_all_else(folder):
    (folder / WEIGHTS).write_bytes(b"others")
    assert read_summary(folder, KEY).measurements["bytes"] == 7
    with pytest.raises(DamagedRunError, match=f"{WEIGHTS}: its hash is not the one in {MANIFEST}"):
        read_run(folder, KEY)
    (folder / MEASUREMENTS).write_text("{}")
    with pytest.raises(DamagedRunError, match=f"{MEASUREMENTS}: its hash"):
        read_summary(folder, KEY)


def link_to_itself_elsewhere(folder, name):
    (folder / name).rename(folder.parent / f"elsewhere-{name}")
    (folder / name).symlink_to(folder.parent / f"elsewhere-{name}")


def pipe(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)


def folder_in_its_place(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [link_to_itself_elsewhere, pipe, folder_in_its_place])
def test_only_plain_files_make_a_run(store, folder, change, name):
    change(folder, name)
    for read in (read_run, read_summary):
        with pytest.raises(DamagedRunError, match=f"{name}: is not a plain file"):
            read(folder, KEY)
    assert store.load(KEY) is None
    assert not folder.exists()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DamagedRunError, match=f"{name}: is missing"):
        read_summary(folder, KEY)


@pytest.mark.parametrize("name", ["extra", ".hidden", "weights.safetensors.partial"])
def test_an_extra_file_is_named(folder, name):
    (folder / name).touch()
    with pytest.raises(DamagedRunError, match=f"{name}: does not belong to a run"):
        read_run(folder, KEY)


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_to_a_run_is_none_and_is_set_aside_itself(store, folder, target):
    folder.rename(store.root / "elsewhere")
    folder.symlink_to(store.root / target)
    with pytest.raises(DamagedRunError, match="is not a folder"):
        read_run(folder, KEY)
    assert store.load(KEY) is None
    assert not folder.is_symlink()
    assert set(contents(store.root / "elsewhere")) == set(FILES)
    assert save_small(store, 1).folder == folder


@pytest.mark.parametrize(
    "value",
    ["78", None, True, [1], float("nan"), float("inf"), 10**400],
    ids=["text", "null", "true", "list", "nan", "inf", "huge"],
)
def test_a_measurement_that_is_no_finite_number_is_damage_whatever_the_hashes_say(tmp_path, value):
    folder = tmp_path / "run"
    write(folder, {"accuracy": 1.0})
    forged = json.dumps({"accuracy": value, "bytes": 7})
    (folder / MEASUREMENTS).write_text(forged)
    forge_manifest(folder)
    with pytest.raises(DamagedRunError, match=r"accuracy is .*, must be a finite number|is not a whole run"):
        read_run(folder, KEY)


def forge_manifest(folder):
    """Writes the manifest anew for what the files are, by its definition."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["hash"]
    manifest["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (HISTORY, MEASUREMENTS, WEIGHTS)
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    manifest["hash"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_run_with_its_manifest_forged_well_is_whole_for_hashes_prove_no_origin(folder):
    (folder / WEIGHTS).write_bytes(b"other weights")
    forge_manifest(folder)
    assert read_run(folder, KEY).weights.read_bytes() == b"other weights"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_written(tmp_path, value):
    with pytest.raises(StoreError, match=f"measurement loss is {value}, must be finite"):
        write(tmp_path / "run", {"loss": value})
    assert contents(tmp_path) == {}


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_every_flipped_bit_is_found(tmp_path_factory, name, data):
    store = Store(tmp_path_factory.mktemp("flipped"))
    path = save_small(store, 1).folder / name
    before = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(before) - 1))
    changed = bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    loaded = store.load(KEY)
    # JSON has bytes that say nothing, such as a space that became a line's end; all else is damage.
    assert loaded is None or (name == MANIFEST and json.loads(changed) == json.loads(before))
    assert (loaded is None) == ((store.root / "set-aside").exists())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_every_file_cut_short_is_found(tmp_path_factory, name, data):
    store = Store(tmp_path_factory.mktemp("cut"))
    path = save_small(store, 1).folder / name
    size = path.stat().st_size
    # The last byte of a manifest is a newline, without which it says the same.
    length = data.draw(st.integers(0, size - (2 if name == MANIFEST else 1)))
    os.truncate(path, length)
    assert store.load(KEY) is None
    assert len(list((store.root / "set-aside").iterdir())) == 1
