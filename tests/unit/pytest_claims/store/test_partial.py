import pytest
from small_runs import read_only, start

from pytest_claims.store.partial import abandoned, delete, is_partial, partial, remove_abandoned


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_there_in_the_end_is_removed_unless_it_was_renamed(tmp_path):
    with partial(tmp_path) as path:
        path.mkdir()
        (path / "inside").write_bytes(b"x")
        assert is_partial(path.name)
        assert all(map(is_partial, names(tmp_path)))
    assert names(tmp_path) == []
    with partial(tmp_path) as path:
        path.write_bytes(b"x")
        path.rename(tmp_path / "kept")
    assert names(tmp_path) == ["kept"]
    assert not is_partial("kept")


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), partial(tmp_path) as path:  # noqa: PT012
        path.mkdir()
        raise RuntimeError("stop")
    assert names(tmp_path) == []


def test_what_is_being_written_is_not_abandoned(tmp_path):
    with partial(tmp_path) as path:
        path.mkdir()
        assert abandoned(tmp_path) == []
        remove_abandoned(path)
        assert path.is_dir()
        assert abandoned(tmp_path) == []


WRITING = """
import sys
from pathlib import Path
from pytest_claims.store.partial import partial

with partial(Path(sys.argv[1])) as path:
    path.mkdir()
    (path / "half").write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_abandoned_and_can_be_removed(tmp_path):
    with start(WRITING, tmp_path) as process:
        assert process.stdout.readline() == "writing\n"
        assert abandoned(tmp_path) == []
        process.kill()
        process.wait(timeout=600)
    (path,) = abandoned(tmp_path)
    assert (path / "half").read_bytes() == b"half"
    assert names(tmp_path) == [path.name, f"{path.name}.lock"]
    remove_abandoned(path)
    assert names(tmp_path) == []
    remove_abandoned(path)
    assert names(tmp_path) == []


def test_what_has_no_lock_is_abandoned_and_looking_changes_nothing(tmp_path):
    (tmp_path / ".partial-old").mkdir()
    (tmp_path / "run").mkdir()
    assert abandoned(tmp_path) == [tmp_path / ".partial-old"]
    assert names(tmp_path) == [".partial-old", "run"]
    assert abandoned(tmp_path / "nowhere") == []


def test_a_lock_alone_is_left_to_its_maker(tmp_path):
    (tmp_path / ".partial-new.lock").touch()
    assert abandoned(tmp_path) == []


def test_a_folder_that_vanished_is_not_made_anew(tmp_path):
    with pytest.raises(FileNotFoundError), partial(tmp_path / "gone"):
        pass
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with read_only(folder) as path, pytest.raises(PermissionError), partial(path):
        pass
    assert names(folder) == []


def test_deleting_a_link_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    delete(tmp_path / "link")
    assert names(tmp_path) == ["folder"]
    delete(tmp_path / "nothing")
    delete(tmp_path / "folder" / "file")
    assert names(tmp_path / "folder") == []
    delete(tmp_path / "folder")
    assert names(tmp_path) == []
