import pytest

from pytest_claims.keys import gpus
from pytest_claims.keys.gpus import Gpu, GpuError, gpu_model, is_cuda, visible_gpus

A, B, C = Gpu("GPU-1a", "NVIDIA A"), Gpu("GPU-2b", "NVIDIA A"), Gpu("GPU-2c", "NVIDIA B, 40 GB")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Gives the machine some GPUs."""

    def give(*found, status=0):
        script = tmp_path / "nvidia-smi"
        lines = "\n".join(f"echo '{gpu.uuid}, {gpu.model}'" for gpu in found)
        script.write_text(f"#!/bin/sh\n{lines}\nexit {status}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        gpus._all_gpus.cache_clear()

    yield give
    gpus._all_gpus.cache_clear()


def test_all_are_visible_in_their_order(machine):
    machine(C, A, B)
    assert visible_gpus() == [C, A, B]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [("1", [B]), ("2,0", [C, A]), ("GPU-1a", [A]), ("GPU-1, 2", [A, C]), ("0,", [A]), ("0,-1", [A])],
)
def test_those_that_cuda_is_told_of_are(machine, monkeypatch, listed, expected):
    machine(A, B, C)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == expected


@pytest.mark.parametrize("listed", ["", "-1"])
def test_hidden_ones_are_not(machine, monkeypatch, listed):
    machine(A)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    with pytest.raises(GpuError, match="no GPU is visible"):
        visible_gpus()


@pytest.mark.parametrize("listed", ["3", "GPU-2", "MIG-1"])
def test_what_is_none_or_several_is_named(machine, monkeypatch, listed):
    machine(A, B, C)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    with pytest.raises(GpuError, match=f"lists '{listed}', must be among 0 .GPU-1a., 1 .GPU-2b., 2 .GPU-2c."):
        visible_gpus()


def test_a_machine_without_them_says_so(machine, tmp_path):
    machine(status=9)
    with pytest.raises(GpuError, match=r"nvidia-smi .* fails .*status 9"):
        visible_gpus()
    gpus._all_gpus.cache_clear()
    (tmp_path / "nvidia-smi").unlink()
    with pytest.raises(GpuError, match=r"nvidia-smi .* fails .*No such file"):
        visible_gpus()


def test_they_must_be_of_one_model(machine, monkeypatch):
    machine(A, B, C)
    with pytest.raises(GpuError, match=r"differ \(NVIDIA A, NVIDIA B, 40 GB\)"):
        gpu_model()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_model() == "NVIDIA A"


@pytest.mark.parametrize(("device", "cuda"), [("cuda", True), ("cuda:1", True), ("cpu", False), ("mps", False)])
def test_torchs_names_of_gpus(device, cuda):
    assert is_cuda(device) is cuda
