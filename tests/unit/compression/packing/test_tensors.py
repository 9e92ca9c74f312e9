import copy
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.packing.container import PackedFileError
from compression.packing.tensors import CastTensor, decode_tensors, encode_tensors, restore, stored_size
from compression.quantization.affine import AffineSpec, quantize_affine
from compression.quantization.codebook import quantize_codebook
from compression.quantization.state_dict import quantize


def packed_tensor(kind, bits, shape, seed):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if kind == "plain":
        return values
    if kind == "cast":
        return CastTensor(values.half(), torch.float64)
    if kind == "range":
        return quantize(values)
    if kind == "codebook":
        return quantize_codebook(values, bits)
    axis = {"per tensor": None, "first": 0, "asymmetric": -1}[kind]
    return quantize_affine(values, AffineSpec(max(bits, 2), symmetric=kind != "asymmetric", axis=axis))


packed_tensors = st.builds(
    packed_tensor,
    kind=st.sampled_from(["plain", "cast", "range", "codebook", "per tensor", "first", "asymmetric"]),
    bits=st.integers(1, 8),
    shape=st.lists(st.integers(0, 6), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 99),
)


@given(st.dictionaries(st.text("ab.", min_size=1, max_size=4), packed_tensors, max_size=5), st.booleans())
@settings(deadline=None, max_examples=50)
def test_all_kinds_come_back_bit_for_bit(tensors, entropy_coded):
    entries, stored = encode_tensors(tensors, entropy_coded)
    again = decode_tensors(entries, stored)
    assert list(again) == list(tensors)
    for name, tensor in tensors.items():
        assert type(again[name]) is type(tensor)
        assert restore(again[name]).dtype == restore(tensor).dtype
        assert torch.equal(restore(again[name]), restore(tensor))
    second_entries, second = encode_tensors(again, entropy_coded)
    assert second_entries == entries
    assert all(torch.equal(second[name], stored[name]) for name in stored)


def test_entropy_coding_is_used_where_it_is_smaller():
    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    large, small = (quantize_affine(values[:rows], AffineSpec(4, axis=None)) for rows in (64, 1))
    entries, stored = encode_tensors({"large": large, "small": small})
    assert [entry["coding"] for entry in entries] == ["ans", "bits"]
    assert entries[0]["bytes"] < 64 * 64 // 2
    assert entries[1]["bytes"] == 32
    assert len(stored["codes"]) == entries[0]["bytes"] + 32


@pytest.fixture
def parts():
    values = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    return encode_tensors(
        {
            "affine": quantize_affine(values, AffineSpec(4)),
            "shifted": quantize_affine(values, AffineSpec(3, symmetric=False)),
            "codebook": quantize_codebook(values, 2),
            "range": quantize(values),
            "cast": CastTensor(values.half(), torch.float32),
            "plain": values,
        },
        entropy_coded=False,
    )


@pytest.mark.parametrize(
    ("entry", "change", "message"),
    [
        ("affine", {"shape": [4, 31]}, "124 codes of 4 bits take 62 bytes, not 60"),
        ("affine", {"shape": [-4, -30]}, "is no list of sizes"),
        ("affine", {"shape": [1 << 50]}, "is no list of sizes"),
        ("affine", {"shape": "ab"}, "is no list of sizes"),
        ("affine", {"shape": [1] * 17}, "17 dimensions; at most 16"),
        ("affine", {"shape": [1 << 20, 1 << 40]}, "the limit is"),
        ("affine", {"shape": [1 << 40, 1 << 40]}, "multiply to more than"),
        ("affine", {"shape": [0, 1 << 47, 1 << 47]}, "multiply to more than"),
        ("plain", {"shape": [1 << 47, 0, 1 << 47]}, "multiply to more than"),
        ("affine", {"shape": [True, 120]}, "is no list of sizes"),
        ("affine", {"bits": 9}, "bits"),
        ("affine", {"bits": "4"}, "bits '4'"),
        ("affine", {"axis": 7}, "tensor 'affine'"),
        ("affine", {"axis": "0"}, "axis '0'"),
        ("affine", {"symmetric": None}, "symmetric None"),
        ("affine", {"coding": "exec"}, "coding 'exec' is unknown"),
        ("affine", {"coding": "ans"}, "frequencies|short"),
        ("affine", {"kind": "pickle"}, "kind 'pickle' is unknown"),
        ("affine", {"bytes": 1 << 40}, "1099511627776 numbers of 'codes' are needed"),
        ("affine", {"bytes": -1}, "-1 numbers of 'codes' are needed"),
        ("affine", {"bytes": "60"}, "bytes '60'"),
        ("affine", {"name": "plain"}, "'plain' is no text, or there twice"),
        ("affine", {"name": 3}, "is no text"),
        ("codebook", {"centroids": 1 << 40}, "numbers of 'float32' are needed"),
        ("codebook", {"centroids": -1}, "numbers of 'float32' are needed"),
        ("codebook", {"centroids": 0}, "0 centroids"),
        ("cast", {"becomes": "torch.load"}, "tensor 'cast'"),
        ("cast", {"type": "load"}, "120 numbers of 'load' are needed; 0 are left"),
        ("cast", {"type": "load", "shape": [0]}, "type 'load' is unknown"),
        ("cast", {"kind": "range"}, "tensor 'cast'"),
        ("shifted", {"symmetric": True}, "tensor 'shifted'|says nothing of the last numbers"),
    ],
)
def test_an_entry_that_lies_is_an_error(parts, entry, change, message):
    entries, stored = copy.deepcopy(parts[0]), parts[1]
    next(each for each in entries if each["name"] == entry).update(change)
    with pytest.raises(PackedFileError, match=message):
        decode_tensors(entries, stored)


def test_numbers_too_many_too_few_or_of_another_type_are_an_error(parts):
    entries, stored = parts
    longer = stored | {"uint8": torch.cat([stored["uint8"], torch.ones(1).byte()])}
    with pytest.raises(PackedFileError, match=r"says nothing of the last numbers in the file: \{'uint8': 1\}"):
        decode_tensors(entries, longer)
    with pytest.raises(PackedFileError, match="tensor 'plain': 120 numbers of 'float32' are needed; 119 are left"):
        decode_tensors(entries, stored | {"float32": stored["float32"][:-1]})
    with pytest.raises(PackedFileError, match="'float32' is float64 of 1 dimensions; a row of float32"):
        decode_tensors(entries, stored | {"float32": stored["float32"].double()})
    with pytest.raises(PackedFileError, match="'codes' is uint8 of 2 dimensions"):
        decode_tensors(entries, stored | {"codes": stored["codes"][None]})
    with pytest.raises(PackedFileError, match="a scale is not above zero"):
        decode_tensors(entries, stored | {"float32": -stored["float32"]})


@pytest.mark.parametrize("entries", [None, "text", [1], {"name": "a"}])
def test_entries_that_are_no_list_of_objects_are_an_error(entries):
    with pytest.raises(PackedFileError, match="a list of objects is needed"):
        decode_tensors(entries, {})


def test_a_decompression_bomb_is_refused_before_memory_is_taken():
    bomb = {"name": "w", "kind": "affine", "bits": 2, "symmetric": True, "axis": None, "coding": "ans", "bytes": 64}
    stored = {"codes": torch.zeros(64, dtype=torch.uint8), "float32": torch.ones(1)}
    tracemalloc.start()
    with pytest.raises(PackedFileError, match="the limit is 4294967296"):
        decode_tensors([{**bomb, "shape": [1 << 31]}], stored)
    with pytest.raises(PackedFileError, match="at most 1024 a byte are read"):
        decode_tensors([{**bomb, "shape": [1 << 29]}], stored)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_the_limit_is_the_readers(parts):
    total = 6 * 4 * 120
    assert decode_tensors(*parts, limit=total).keys() >= {"plain"}
    with pytest.raises(PackedFileError, match=f"take {total} bytes unpacked; the limit is {total - 1}"):
        decode_tensors(*parts, limit=total - 1)


def test_a_type_that_files_do_not_hold_is_an_error():
    with pytest.raises(ValueError, match="tensor 'w' is complex64; one of bool, uint8"):
        encode_tensors({"w": torch.ones(1, dtype=torch.complex64)})


@pytest.mark.parametrize(
    "cast",
    [
        CastTensor(torch.ones(1).half(), torch.float8_e4m3fn),
        CastTensor(torch.ones(1).to(torch.float8_e4m3fn), torch.float32),
    ],
)
def test_a_cast_from_or_to_a_type_that_files_do_not_hold_is_an_error(cast):
    with pytest.raises(ValueError, match="tensor 'w' is float8_e4m3fn; one of bool, uint8"):
        encode_tensors({"w": cast})


def test_a_name_that_safetensors_keep_is_an_error():
    with pytest.raises(ValueError, match="a tensor is called '__metadata__'"):
        encode_tensors({"__metadata__": torch.ones(1)})


@given(st.dictionaries(st.text("ab", min_size=1, max_size=3), packed_tensors, max_size=5), st.booleans())
@settings(deadline=None, max_examples=50)
def test_sizes_of_entries_sum_to_what_is_stored(tensors, entropy_coded):
    entries, stored = encode_tensors(tensors, entropy_coded)
    assert sum(map(stored_size, entries)) == sum(tensor.nbytes for tensor in stored.values())
    alone = {name: encode_tensors({name: tensor}, entropy_coded)[1] for name, tensor in tensors.items()}
    assert {entry["name"]: stored_size(entry) for entry in entries} == {
        name: sum(tensor.nbytes for tensor in parts.values()) for name, parts in alone.items()
    }
