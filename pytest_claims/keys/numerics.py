"""What decides a run's bytes beside recipe, seed, code and data: the library, the device and the CPU's instructions.

Told without importing torch.
"""

import platform
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from pytest_claims.basics.limits import THREADS_PER_RUN
from pytest_claims.keys.gpus import gpu_model, is_cuda

_KERNEL_FLAGS = (
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "sve",
    "bf16",
)


_KERNEL_VARIABLES = re.compile(
    "(ATEN|MKL|MKLDNN|DNNL|ONEDNN|OMP|KMP|GOMP|OPENBLAS|BLIS|VECLIB|NUMEXPR|TORCH|PYTORCH|CUBLAS|CUDNN|NVIDIA_TF32)_.*"
)
"""Of the environment, by which libraries choose kernels, instructions and threads: other ones give other bytes."""


def without_kernel_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that would change the bytes of runs, but no part of their keys."""
    return {name: value for name, value in environment.items() if not _KERNEL_VARIABLES.fullmatch(name)}


def numerics_environment(device: str) -> dict[str, object]:
    """The part of a run's key that belongs to the machine; `device` is torch's name of it, whose number does not count.

    Raises:
        GpuError: The device is a GPU, and there is none, or of several models.
    """
    return {
        "torch": version("torch"),
        "device": device.partition(":")[0],
        **({"gpu": gpu_model()} if is_cuda(device) else {}),
        "machine": platform.machine(),
        "cpu": [flag for flag in _KERNEL_FLAGS if flag in _cpu_flags()],
        "threads": THREADS_PER_RUN,
        "deterministic": True,
    }


def numerics_text(environment: Mapping[str, object]) -> str:
    """The environment in one line, as records and reports tell it: "torch 2.9.1, cpu, x86_64 avx avx2, 1 thread"."""
    flags, threads = environment["cpu"], environment["threads"]
    machine = " ".join(map(str, (environment["machine"], *(flags if isinstance(flags, list) else ()))))
    device = environment.get("gpu", environment["device"])
    return f"torch {environment['torch']}, {device}, {machine}, {threads} thread{'' if threads == 1 else 's'}"


@lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    """The CPU's features as Linux names them; none where it does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next(lines, "").partition(":")[2].split())
