import os

import pytest

from pytest_claims.report.files import ResultsError, remove_file, write_file


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "x.csv"
    assert write_file(path, b"one") == path
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["x.csv"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_file(tmp_path / "x.csv", b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResultsError, match=r"cannot write x\.csv \(No space left on device\)"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(ResultsError, match=f"results folder {tmp_path / 'results'}: cannot write x.csv"):
        write_file(tmp_path / "results" / "x.csv", b"")


def test_removing_what_is_not_there_is_no_error_but_a_folder_in_its_place_is(tmp_path):
    remove_file(tmp_path / "x.png")
    write_file(tmp_path / "x.png", b"")
    remove_file(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.png").mkdir()
    with pytest.raises(ResultsError, match=r"x\.png"):
        remove_file(tmp_path / "x.png")
