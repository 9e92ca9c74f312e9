import os
import pickle

import pytest
import safetensors.torch
import torch

from compression.cli.source_file import is_packed, read_state
from compression.packing.state_file import codebook, pack_state_dict, unpack_state_dict

STATE = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


def assert_is_state(found, expected=STATE):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_are_read(tmp_path, wrapper, zipped):
    content = {wrapper: STATE, "epoch": 3} if wrapper else STATE
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    assert_is_state(read_state(tmp_path / "model.pth"))


def test_safetensors_and_packed_files_are_read(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "plain")
    pack_state_dict(STATE, tmp_path / "packed", codebook(1))
    assert_is_state(read_state(tmp_path / "plain"))
    assert_is_state(read_state(tmp_path / "packed"), unpack_state_dict(tmp_path / "packed"))
    assert (is_packed(tmp_path / "plain"), is_packed(tmp_path / "packed")) == (False, True)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


def test_no_code_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Evil()}, "zipped.pth")
    with open("bare.pth", "wb") as file:  # noqa: PTH123 - relative to the temporary folder
        pickle.dump({"w": Evil()}, file)
    for name in ("zipped.pth", "bare.pth"):
        with pytest.raises(ValueError, match=name):
            read_state(tmp_path / name)
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list; a state dict is needed"),
        ({"w": torch.ones(1), "epoch": 3}, "entry 'epoch' is a int; tensors by name are needed"),
        ({1: torch.ones(1)}, "entry 1 is a Tensor"),
    ],
)
def test_what_is_no_state_dict_is_an_error(tmp_path, content, message):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"model\.pth: {message}"):
        read_state(tmp_path / "model.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02garbage", b"\x80\x05", b"text", b"\xff" * 50])
def test_what_is_no_file_of_weights_is_an_error(tmp_path, content):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pth: "):
        read_state(tmp_path / "model.pth")


def test_a_file_of_torch_save_cut_short_is_an_error(tmp_path):
    torch.save(STATE, tmp_path / "model.pth")
    whole = (tmp_path / "model.pth").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "model.pth").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.pth: "):
            read_state(tmp_path / "model.pth")
