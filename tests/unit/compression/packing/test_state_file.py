import pytest
import torch
import torchvision

from compression.packing.container import PackedFileError, read, write
from compression.packing.state_file import (
    affine,
    cast,
    codebook,
    load_state_dict,
    min_max_bytes,
    pack_state_dict,
    read_packed,
)
from compression.packing.tensors import restore
from compression.quantization.affine import AffineSpec, quantize_affine
from compression.quantization.codebook import quantize_codebook
from compression.quantization.state_dict import dequantize_state_dict, quantize_state_dict


@pytest.fixture
def state():
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(8, 4, 3, 3, generator=generator),
        "conv.bias": torch.randn(8, generator=generator),
        "double": torch.randn(3, 5, generator=generator, dtype=torch.float64),
        "steps": torch.tensor(7),
        "scale": torch.tensor(0.3),
        "table": torch.arange(6).reshape(2, 3),
    }


def assert_equal_states(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("entropy_coded", [True, False])
def test_affine_codes_are_for_kernels_alone(state, tmp_path, entropy_coded):
    path = tmp_path / "packed"
    assert pack_state_dict(state, path, affine(AffineSpec(3)), entropy_coded) == path.stat().st_size
    expected = dict(state)
    for name in ("conv.weight", "double"):
        expected[name] = quantize_affine(state[name], AffineSpec(3)).dequantize()
    assert_equal_states(load_state_dict(path), expected)


def test_codebooks_and_no_method_at_all(state, tmp_path):
    pack_state_dict(state, tmp_path / "packed", codebook(2))
    found = load_state_dict(tmp_path / "packed")
    assert torch.equal(found["conv.weight"], quantize_codebook(state["conv.weight"], 2).dequantize())
    assert len(found["conv.weight"].unique()) == 4
    pack_state_dict(state, tmp_path / "packed", lambda tensor, _: tensor)
    assert_equal_states(load_state_dict(tmp_path / "packed"), state)


def test_min_max_is_the_reports_quantization(state, tmp_path):
    pack_state_dict(state, tmp_path / "packed", min_max_bytes())
    assert_equal_states(load_state_dict(tmp_path / "packed"), dequantize_state_dict(quantize_state_dict(state, 8)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casts_come_back_in_the_type_they_had(state, tmp_path, dtype):
    pack_state_dict(state, tmp_path / "packed", cast(dtype))
    found = load_state_dict(tmp_path / "packed")
    expected = {n: t.to(dtype).to(t.dtype) if t.is_floating_point() else t for n, t in state.items()}
    expected["double"] = state["double"].float().to(dtype).double()
    assert_equal_states(found, expected)


def test_a_cast_beyond_its_range_and_what_is_no_tensor_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"'w' holds a value beyond 65504, the end of torch\.float16"):
        pack_state_dict({"w": torch.tensor([1e6])}, tmp_path / "packed", cast(torch.float16))
    with pytest.raises(ValueError, match="'extra' is a dict; tensors are needed"):
        pack_state_dict({"extra": {}}, tmp_path / "packed", codebook(2))
    assert not list(tmp_path.iterdir())


def test_an_error_names_the_file(state, tmp_path):
    path = tmp_path / "packed"
    pack_state_dict(state, path, affine(AffineSpec(3)))
    header, tensors = read(path)
    write(path, {**header, "version": 2}, tensors)
    with pytest.raises(PackedFileError, match="packed: format version is 2; this program reads 1"):
        load_state_dict(path)
    write(path, {"version": 1}, tensors)
    with pytest.raises(PackedFileError, match="packed: 'tensors' is 'None'"):
        read_packed(path)
    write(path, {**header, "version": True}, tensors)
    with pytest.raises(PackedFileError, match="packed: format version is True"):
        load_state_dict(path)


def test_a_resnet18_at_four_bits_is_a_tenth_of_itself(tmp_path):
    state = torchvision.models.resnet18(num_classes=11).state_dict()
    size = pack_state_dict(state, tmp_path / "packed", affine(AffineSpec(4)))
    assert size < 0.1 * sum(4 * tensor.numel() for tensor in state.values())
    found = read_packed(tmp_path / "packed")
    changed = [name for name, tensor in state.items() if not torch.equal(restore(found[name]), tensor)]
    assert changed == [name for name, tensor in state.items() if tensor.ndim > 1]
