import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from compression.cli.source_file import read_state
from compression.packing.container import PackedFileError, is_packed
from compression.packing.state_file import codebook, load_state_dict, pack_state_dict

STATE = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


def assert_is_state(found, expected=STATE):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "wrappers",
    [
        [],
        ["state_dict"],
        ["model"],
        ["model_state_dict"],
        ["state_dict", "model"],
        ["model", "state_dict"],
        ["model", "model", "model_state_dict", "state_dict", "model"],
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save_are_read(tmp_path, wrappers, zipped):
    content = STATE
    for wrapper in wrappers:
        content = {"epoch": 3, wrapper: content}
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    assert_is_state(read_state(tmp_path / "model.pth"))


def test_safetensors_and_packed_files_are_read(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "plain")
    pack_state_dict(STATE, tmp_path / "packed", codebook(1))
    assert_is_state(read_state(tmp_path / "plain"))
    assert_is_state(read_state(tmp_path / "packed"), load_state_dict(tmp_path / "packed"))
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


def test_a_wrapper_that_lies_in_itself_is_an_error(tmp_path):
    content = {}
    content["model"] = {"state_dict": content}
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth: entry '\w+' is a dict; tensors by name are needed"):
        read_state(tmp_path / "model.pth")


def test_a_file_of_torch_save_cut_short_is_an_error(tmp_path):
    torch.save(STATE, tmp_path / "model.pth")
    whole = (tmp_path / "model.pth").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "model.pth").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.pth: "):
            read_state(tmp_path / "model.pth")


@pytest.mark.parametrize("suffix", ["", ".bin", ".safetensors"])
@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 1 << 16 | 640])
def test_safetensors_whose_header_begins_like_a_pickle_are_read(tmp_path, length, suffix):
    path = tmp_path / f"model{suffix}"
    name = "w" * (length - 60)
    safetensors.torch.save_file({name: torch.ones(2)}, path)
    content = path.read_bytes()
    assert content[:2] == length.to_bytes(8, "little")[:2]
    assert_is_state(read_state(path), {name: torch.ones(2)})
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="no readable safetensors file"):
        read_state(path)


def test_packed_files_with_the_suffix_of_safetensors_are_unpacked(tmp_path):
    path, generator = tmp_path / "model.safetensors", random.Random(0)
    like_pickles = 0
    for length in range(1, 400):
        state = {generator.randbytes(length).hex(): torch.ones(2)}
        pack_state_dict(state, path, lambda tensor, _: tensor)
        assert_is_state(read_state(path), state)
        like_pickles += path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03")
    assert like_pickles
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(PackedFileError, match="the file is damaged"):
        read_state(path)


def test_no_message_recommends_to_run_the_code_in_a_file(tmp_path):
    torch.save({"w": Evil()}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"holds more than tensors \(posix\.mkdir\)") as raised:
        read_state(tmp_path / "model.pth")
    assert "weights_only" not in str(raised.value)
    assert "safe_globals" not in str(raised.value)


def mutated(content, generator):
    """A few bytes changed, cut out or put in, half of them near the front, where a file says most of itself."""
    damaged = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 4])):
        position = generator.randrange(generator.choice([len(damaged), min(len(damaged), 900)]))
        change = generator.choice(["set", "cut", "put"])
        if change == "set":
            damaged[position] = generator.randrange(256)
        elif change == "cut":
            del damaged[position : position + generator.randrange(1, 9)]
        else:
            damaged[position:position] = generator.randbytes(generator.randrange(1, 9))
    return bytes(damaged)


def error_of(path):
    try:
        read_state(path)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_of_torch_save_is_read_or_an_error_that_names_it(tmp_path, zipped):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.randn(3, 5), "n": torch.tensor(3)}, path, _use_new_zipfile_serialization=zipped)
    whole, generator = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(400):
        path.write_bytes(mutated(whole, generator))
        message = error_of(path)
        assert not message or message.startswith(f"{path}: ")
        assert "weights_only" not in message
        refused += bool(message)
    assert refused > 100


def test_a_zip_file_whose_end_lies_is_an_error_that_names_it(tmp_path, monkeypatch):
    def lies(_):
        raise zipfile.BadZipFile("zipfiles that span multiple disks are not supported")

    monkeypatch.setattr(zipfile, "_EndRecData", lies)
    torch.save(STATE, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth: no readable file of torch.save"):
        read_state(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (torch.Tensor.to_sparse, "sparse_coo"),
        (torch.Tensor.to_sparse_csr, "sparse_csr"),
        (lambda tensor: tensor.to("meta"), "on the meta device"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_a_tensor_that_is_not_dense_is_an_error(tmp_path, made, kind):
    torch.save({"w": made(torch.eye(3))}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"model\.pth: tensor 'w' is {kind}; a dense one with values is needed"):
        read_state(tmp_path / "model.pth")


def test_conjugate_and_negative_views_are_read_as_what_they_show(tmp_path):
    state = {"n": torch._neg_view(torch.arange(3.0)), "i": torch.tensor([1 + 2j]).conj().imag}
    torch.save(state, tmp_path / "model.pth")
    found = read_state(tmp_path / "model.pth")
    assert [tensor.numpy().tolist() for tensor in found.values()] == [[0.0, -1.0, -2.0], [-2.0]]


def test_the_limit_holds_for_every_kind_of_file(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 22, 1 << 22)}, tmp_path / "expanded.pth")
    torch.save(STATE, tmp_path / "model.pth")
    with zipfile.ZipFile(tmp_path / "model.pth") as plain, zipfile.ZipFile(tmp_path / "deflated.pth", "w") as bomb:
        for member in plain.infolist():
            content = plain.read(member) + (bytes(1 << 20) if member.filename.endswith("data/0") else b"")
            bomb.writestr(member.filename, content, zipfile.ZIP_DEFLATED)
    safetensors.torch.save_file({"a": torch.zeros(1 << 10)}, tmp_path / "model.safetensors")
    for name, limit in (("expanded.pth", 1 << 40), ("deflated.pth", 1 << 20), ("model.safetensors", 1 << 12)):
        with pytest.raises(ValueError, match=rf"{name}: its tensors take \d+ bytes; the limit is {limit}"):
            read_state(tmp_path / name, limit)
    assert_is_state(read_state(tmp_path / "model.pth", 1 << 12))
    assert Path(tmp_path / "deflated.pth").stat().st_size < 1 << 14
