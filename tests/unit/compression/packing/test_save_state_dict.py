import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
import torchvision
from torch import nn

from compression.packing.container import ENTRY, PackedFileError, is_packed
from compression.packing.state_file import load_state_dict, save_state_dict
from compression.quantization.state_dict import dequantize_state_dict, quantize_state_dict


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "conv.bias": torch.randn(4, generator=generator),
        "constant": torch.ones(4),
        "empty": torch.empty(0, 2),
        "scale": torch.tensor(0.1),
        "steps": torch.tensor(7),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
    }


def assert_equal_states(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name


def test_32_bits_come_back_bit_for_bit(state, tmp_path):
    size = save_state_dict(state, tmp_path / "model.safetensors")
    assert size == (tmp_path / "model.safetensors").stat().st_size
    assert_equal_states(load_state_dict(tmp_path / "model.safetensors"), state)


@pytest.mark.parametrize("bits", [8, 16])
def test_fewer_bits_come_back_as_quantization_has_them(state, tmp_path, bits):
    save_state_dict(state, tmp_path / "model.safetensors", bits)
    expected = dequantize_state_dict(quantize_state_dict(state, bits))
    assert_equal_states(load_state_dict(tmp_path / "model.safetensors"), expected)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_any_floating_dtype_comes_back_as_float32(tmp_path, bits):
    state = {
        str(dtype): torch.tensor([[0.25, -1.0]], dtype=dtype)
        for dtype in (torch.float64, torch.float16, torch.bfloat16)
    } | {"scalar": torch.tensor(0.5, dtype=torch.float16)}
    save_state_dict(state, tmp_path / "model.safetensors", bits)
    expected = dequantize_state_dict(quantize_state_dict(state, bits)) if bits < 32 else state
    assert_equal_states(load_state_dict(tmp_path / "model.safetensors"), {n: t.float() for n, t in expected.items()})


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_shared_and_strided_tensors_are_stored_each_for_itself(tmp_path, bits):
    base = torch.arange(24.0).reshape(2, 3, 2, 2)
    state = {
        "base": base,
        "again": base,
        "slice": base[:, 1:2],
        "transposed": base.transpose(0, 1),
        "channels_last": base.to(memory_format=torch.channels_last),
        "expanded": torch.tensor([3.0]).expand(4),
    }
    save_state_dict(state, tmp_path / "model.safetensors", bits)
    expected = dequantize_state_dict(quantize_state_dict(state, bits)) if bits < 32 else state
    assert_equal_states(load_state_dict(tmp_path / "model.safetensors"), expected)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_an_empty_state_dict_round_trips(tmp_path, bits):
    save_state_dict({}, tmp_path / "model.safetensors", bits)
    assert load_state_dict(tmp_path / "model.safetensors") == {}


def test_not_finite_weights_are_kept_at_32_bits(tmp_path):
    state = {"weight": torch.tensor([float("nan"), float("inf"), -0.0])}
    save_state_dict(state, tmp_path / "model.safetensors")
    restored = load_state_dict(tmp_path / "model.safetensors")["weight"]
    assert torch.equal(restored.view(torch.int32), state["weight"].view(torch.int32))


def test_a_resnet18_gets_almost_four_times_smaller(tmp_path):
    model = torchvision.models.resnet18(num_classes=11)
    sizes = {bits: save_state_dict(model.state_dict(), tmp_path / str(bits), bits) for bits in (8, 16, 32)}
    assert sizes[32] / sizes[8] > 3.9
    assert sizes[32] / sizes[16] > 1.99
    model.load_state_dict(load_state_dict(tmp_path / "8"))


def test_the_student_fits_in_300_000_bytes(build_student, tmp_path):
    student = build_student()
    assert sum(parameter.numel() for parameter in student.parameters()) == 256_779
    size = save_state_dict(student.state_dict(), tmp_path / "student.safetensors", 8)
    values = sum(tensor.numel() for tensor in student.state_dict().values())
    assert values <= size < 300_000


SAVE_SCRIPT = """
import sys, torch
from compression.packing.state_file import save_state_dict
save_state_dict({name: torch.ones(2) * len(name) for name in ("b", "aa", "c")}, sys.argv[1], 8)
"""


@pytest.mark.slow
def test_the_same_state_gives_the_same_bytes_in_another_process(tmp_path):
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", SAVE_SCRIPT, str(tmp_path / "other")], cwd=root, check=True, timeout=600)
    state = {name: torch.ones(2) * len(name) for name in ("b", "aa", "c")}
    save_state_dict(state, tmp_path / "here", 8)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "other").read_bytes()


def test_what_is_loaded_does_not_depend_on_the_file_any_more(state, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state_dict(state, path)
    restored = load_state_dict(path)
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert_equal_states(restored, state)


def test_a_failed_write_leaves_the_old_file_and_no_other(state, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_state_dict(state, path)
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_state_dict({"weight": torch.zeros(2)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_file(state, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    save_state_dict(state, path)
    assert_equal_states(load_state_dict(path), state)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("state", "bits", "message"),
    [
        ({"w": torch.ones(2)}, 4, r"bits must be one of \(8, 16, 32\), not 4"),
        ({"w": torch.tensor([1.0, float("inf")])}, 8, "'w' holds 1 values that are not finite"),
        ({"w": torch.tensor([1.0, 1e6])}, 16, r"'w' holds a value of magnitude 1e\+06"),
        ({"__metadata__": torch.ones(2)}, 32, "a tensor is called '__metadata__'"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, 32, "tensor 'w' is complex64; one of bool, "),
    ],
)
def test_a_state_that_cannot_be_stored_is_an_error_and_writes_nothing(state, bits, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_state_dict(state, tmp_path / "model.safetensors", bits)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_state_dict(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_file_cut_short_anywhere_is_an_error_that_names_it(tmp_path, bits):
    path = tmp_path / "model.safetensors"
    save_state_dict({"weight": torch.arange(6.0), "steps": torch.tensor(1)}, path, bits)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(PackedFileError, match=r"model\.safetensors: no readable safetensors file"):
            load_state_dict(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95 a pickle",
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 99_000_000) + b"{}" + b" " * 100,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 2) + b"\xff\xfe",
    ],
    ids=["empty", "pickle", "zip", "header of 4 EiB", "header of 99 MB", "list", "null", "not text"],
)
def test_a_file_that_is_no_safetensors_file_is_an_error(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(PackedFileError, match=r"model\.safetensors: no readable safetensors file"):
        load_state_dict(path)


def raw_file(path, entries, data=b""):
    header = json.dumps({"__metadata__": {ENTRY: ""}} | entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([1 << 40], [0, 4 << 40]),
        ([1 << 62, 1 << 62], [0, 4]),
        ([2], [0, 4]),
        ([1], [4, 8]),
        ([1], [4, 0]),
        ([-1], [0, 4]),
        ([0, 1 << 63], [0, 0]),
        ([0, (1 << 64) - 1], [0, 0]),
    ],
)
def test_a_shape_that_lies_about_its_data_is_an_error(shape, offsets, tmp_path):
    entry = {"w": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    path = raw_file(tmp_path / "model.safetensors", entry, bytes(offsets[1] if offsets[1] < 100 else 4))
    with pytest.raises(PackedFileError, match=r"model\.safetensors"):
        load_state_dict(path)


def test_another_programs_file_is_read_with_floats_of_32_bits(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"w": torch.tensor([0.5, -2.0]).bfloat16(), "n": torch.tensor(3)}, path, {"by": "them"})
    assert_equal_states(load_state_dict(path), {"w": torch.tensor([0.5, -2.0]), "n": torch.tensor(3)})


def test_other_programs_read_floats_by_name(state, tmp_path):
    for bits, dtype in ((16, torch.float16), (32, torch.float32)):
        save_state_dict(state, tmp_path / "file", bits)
        found = safetensors.torch.load_file(tmp_path / "file")
        assert found["conv.weight"].dtype == dtype
        assert torch.equal(found["conv.weight"], state["conv.weight"].to(dtype))
        assert not is_packed(tmp_path / "file")
    save_state_dict(state, tmp_path / "file", 8)
    assert is_packed(tmp_path / "file")


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_file_beyond_the_limit_is_an_error(tmp_path, bits):
    save_state_dict({"w": torch.ones(1000)}, tmp_path / "file", bits)
    with pytest.raises(PackedFileError, match=r"file: its tensors take \d+ bytes( unpacked)?; the limit is 1000"):
        load_state_dict(tmp_path / "file", limit=1000)


def test_a_restored_model_computes_the_same(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    model(torch.randn(2, 3, 5, 5))
    save_state_dict(model.state_dict(), tmp_path / "model.safetensors")
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2))
    other.load_state_dict(load_state_dict(tmp_path / "model.safetensors"))
    images = torch.randn(2, 3, 5, 5)
    assert torch.equal(model.eval()(images), other.eval()(images))
