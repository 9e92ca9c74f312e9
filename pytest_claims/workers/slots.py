"""How many runs a machine makes side by side, and what the process that makes each is told."""

import os

from pytest_claims.basics.limits import THREADS_PER_RUN
from pytest_claims.keys.gpus import is_cuda, visible_gpus


def default_jobs(device: str = "cpu", runs_per_gpu: int = 1) -> int:
    """As many runs side by side as the device has room for.

    Args:
        device: Torch's name of it; `cuda` for all visible GPUs, `cuda:1` for one of them.
        runs_per_gpu: Runs that share a GPU.

    Raises:
        GpuError: The device is a GPU, and there is none.
    """
    if is_cuda(device):
        return runs_per_gpu * (1 if ":" in device else len(visible_gpus()))
    return max(1, (os.cpu_count() or 1) // THREADS_PER_RUN)


def slot_environment(device: str, slot: int) -> dict[str, str]:
    """Variables of the process in a slot, numbered from 0: threads, and which of the GPUs is its own.

    Raises:
        GpuError: The device is a GPU, and there is none.
    """
    variables = fixed_variables(device)
    if device == "cuda":
        gpus = visible_gpus()
        variables["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)].uuid
    return variables


def fixed_variables(device: str) -> dict[str, str]:
    """Return the variables that every process that makes runs has, wherever it is."""
    variables = {name: str(THREADS_PER_RUN) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if is_cuda(device):
        variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS is not deterministic, and torch refuses
    return variables
