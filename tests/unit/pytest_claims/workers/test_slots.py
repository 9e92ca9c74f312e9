import pytest

from pytest_claims.keys.gpus import Gpu, GpuError
from pytest_claims.workers import slots
from pytest_claims.workers.slots import default_jobs, fixed_variables, slot_environment


@pytest.fixture
def gpus(monkeypatch):
    """Gives the machine two GPUs."""
    found = [Gpu("GPU-1a", "NVIDIA A"), Gpu("GPU-2b", "NVIDIA A")]
    monkeypatch.setattr(slots, "visible_gpus", lambda: found)
    return found


@pytest.mark.parametrize(("cores", "jobs"), [(6, 6), (1, 1), (None, 1)])
def test_there_are_as_many_jobs_as_cores(monkeypatch, cores, jobs):
    monkeypatch.setattr(slots.os, "cpu_count", lambda: cores)
    assert default_jobs() == jobs


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("device", "runs_per_gpu", "jobs"), [("cuda", 1, 2), ("cuda", 3, 6), ("cuda:1", 1, 1), ("cuda:1", 3, 3)]
)
def test_there_are_as_many_jobs_as_the_gpus_have_room_for(device, runs_per_gpu, jobs):
    assert default_jobs(device, runs_per_gpu) == jobs


def test_without_gpus_there_is_no_default(monkeypatch):
    def none():
        raise GpuError("no GPU is visible")

    monkeypatch.setattr(slots, "visible_gpus", none)
    with pytest.raises(GpuError, match="no GPU is visible"):
        default_jobs("cuda")


def test_a_run_computes_on_one_thread():
    assert slot_environment("cpu", 3) == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.mark.usefixtures("gpus")
def test_slots_share_the_gpus_evenly():
    given = [slot_environment("cuda", slot)["CUDA_VISIBLE_DEVICES"] for slot in range(5)]
    assert given == ["GPU-1a", "GPU-2b", "GPU-1a", "GPU-2b", "GPU-1a"]


@pytest.mark.usefixtures("gpus")
def test_a_certain_gpu_is_left_to_torch_and_cublas_is_deterministic():
    environment = slot_environment("cuda:1", 0)
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.usefixtures("gpus")
def test_whatever_makes_runs_has_the_fixed_variables():
    for device in ("cpu", "cuda", "cuda:1"):
        assert fixed_variables(device).items() <= slot_environment(device, 1).items()
    assert fixed_variables("cpu") == slot_environment("cpu", 0)
    assert "CUDA_VISIBLE_DEVICES" not in fixed_variables("cuda")
