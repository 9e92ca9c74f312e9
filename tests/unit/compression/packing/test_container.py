import base64
import json
import os
import struct
import zlib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from compression.packing import container
from compression.packing.container import ENTRY, PackedFileError, has_frame, is_packed, read, write

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
    "scalar": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "empty": torch.empty(0, 2),
    "": torch.ones(1, dtype=torch.uint8),
}
HEADER = {"list": [1, 2.5, None, "é"], "name": "x"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def test_what_was_written_is_read(path):
    assert write(path, HEADER, TENSORS) == path.stat().st_size
    header, tensors = read(path)
    assert header == HEADER
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert safetensors.torch.load_file(path)["weight"].tolist() == TENSORS["weight"].tolist()


def test_a_bit_that_flips_in_any_byte_is_noticed(path):
    write(path, {"a": 1}, {"w": torch.tensor([1.0, -2.0])})
    whole = path.read_bytes()
    # Every third bit: two or three of each byte.
    for position in range(0, 8 * len(whole), 3):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(PackedFileError):
            read(path)


def test_every_cut_is_noticed(path):
    write(path, {"a": 1}, {"w": torch.tensor([1.0, -2.0])})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(PackedFileError):
            read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(PackedFileError):
        read(path)


def test_a_header_that_is_too_large_is_refused_before_it_is_read(path, monkeypatch):
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(PackedFileError, match="of which a header takes 1152921504606846976"):
        read(path)
    write(path, HEADER, TENSORS)
    monkeypatch.setattr(container, "LARGEST_HEADER", 100)
    with pytest.raises(PackedFileError, match="at most 100 are read"):
        read(path)
    with pytest.raises(ValueError, match="more than 100 bytes of header"):
        write(path, HEADER, TENSORS)


def sealed(path, text, tensors):
    """A file whose digest is right, whatever it says."""
    sealed_header = f"{container._digest(text, tensors)} {container._compressed(text)}"
    safetensors.torch.save_file(tensors, path, {ENTRY: sealed_header})


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "no JSON"), ("[" * 60_000, "no JSON"), ("[1]", "is a list; an object is needed"), ("", "no JSON")],
)
def test_a_header_that_is_no_object_is_an_error(path, text, message):
    sealed(path, text, {"w": torch.ones(1)})
    with pytest.raises(PackedFileError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("compressed", "message"),
    [
        ("", "does not end"),
        ("\\", "can't be decompressed"),
        (base64.b85encode(b"no zlib stream").decode(), "can't be decompressed"),
        (base64.b85encode(zlib.compress(b"\xff")).decode(), "can't be decompressed"),
        (base64.b85encode(zlib.compress(b" " * (33 << 20))).decode(), r"takes more than 17\d{5} bytes"),
        (base64.b85encode(zlib.compress(b"{}") + b"more").decode(), "does not end"),
    ],
)
def test_a_header_that_does_not_decompress_or_never_ends_is_an_error(path, compressed, message):
    safetensors.torch.save_file({"w": torch.ones(1)}, path, {ENTRY: f"{'0' * 64} {compressed}"})
    with pytest.raises(PackedFileError, match=message):
        read(path)


def test_another_programs_file_is_an_error(path):
    safetensors.torch.save_file({"w": torch.ones(1)}, path, {"format": "pt"})
    with pytest.raises(PackedFileError, match="another program's file"):
        read(path)
    path.write_bytes(b"PK\x03\x04" + json.dumps(HEADER).encode())
    with pytest.raises(PackedFileError, match="no readable safetensors file"):
        read(path)


@pytest.mark.parametrize("reader", [read, is_packed, has_frame])
def test_what_is_no_regular_file_is_not_read(path, reader):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")
    for pipe_or_device in (path.with_name("pipe"), path, Path("/dev/zero")):
        with pytest.raises(OSError, match=f"No regular file, which is needed: '{pipe_or_device}'"):
            reader(pipe_or_device)
    with pytest.raises(IsADirectoryError):
        reader(path.parent)


def test_a_link_to_a_file_is_read(path):
    write(path.with_name("target"), HEADER, TENSORS)
    path.symlink_to("target")
    assert read(path)[0] == HEADER


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    write(path, HEADER, TENSORS)
    before = path.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, {"other": 1}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_header_may_be_so_many_times_its_file(path):
    # A table of layers without weights: of all, what is smallest for its file.
    header = {"layers": [{"name": f"encoder.layers.{k}.output.activation", "type": "ReLU"} for k in range(20_000)]}
    size = write(path, header, {})
    assert len(json.dumps(header)) > 1_000_000 > 4 * size
    assert read(path)[0] == header
    with pytest.raises(ValueError, match=r"names and layers take 1\d{6} bytes; a file of \d+ may have \d+"):
        write(path, {"zeros": [0] * 500_000}, {})
    assert read(path)[0] == header


def test_a_header_of_as_many_bytes_as_are_allowed_is_read_and_not_one_more(path, monkeypatch):
    text = json.dumps({"a": "b" * 100})
    for largest, message in ((len(text), None), (len(text) - 1, f"more than {len(text) - 1} bytes")):
        sealed(path, text, {"w": torch.ones(1)})
        monkeypatch.setattr(container, "_largest_text", lambda _, largest=largest: largest)
        if message is None:
            assert read(path)[0] == json.loads(text)
        else:
            with pytest.raises(PackedFileError, match=message):
                read(path)
