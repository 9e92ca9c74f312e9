import os
import stat
from pathlib import Path

import pytest

from compression.atomic_file import replacing


def test_the_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_inside_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_does_not_reach_the_disk_is_not_taken(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"new")
    assert list(tmp_path.iterdir()) == []


def write(path, content=b"new"):
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for target in (folder / "old", folder / "absent"):
        link = tmp_path / f"link-{target.name}"
        link.symlink_to(Path("folder") / target.name)
        write(link)
        assert link.is_symlink()
        assert target.read_bytes() == b"new"
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_replaced_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_permissions_that_any_new_file_has(tmp_path):
    (tmp_path / "plain").touch()
    write(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OSError, match=f"No regular file, and not replaced: '{path}'"):
            write(path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


@pytest.mark.parametrize("path", [Path(), Path("/"), Path("..")])
def test_a_folder_is_not_replaced(path):
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{path}'"):
        write(path)


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "字" * 85])
def test_the_longest_names_are_written(tmp_path, name):
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_errors_name_the_path_and_not_the_temporary_file(tmp_path):
    (tmp_path / "file").touch()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path / "absent" / "out", tmp_path / "file" / "out", loop, tmp_path / ("x" * 256)):
        with pytest.raises(OSError, match="Errno") as raised:
            write(path)
        assert raised.value.filename == str(path)


def test_an_error_of_the_block_about_the_temporary_file_names_the_path(tmp_path):
    def lose_it():
        with replacing(tmp_path / "file") as temporary:
            temporary.unlink()
            temporary.read_bytes()

    with pytest.raises(FileNotFoundError) as raised:
        lose_it()
    assert raised.value.filename == str(tmp_path / "file")
