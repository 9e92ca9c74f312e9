"""Which GPUs CUDA may use, told without importing torch."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache

DECIDES_BYTES = False
"""No run's bytes depend on this module; see `pytest_claims.keys.code_fingerprint`."""


class GpuError(ValueError):
    """The GPUs cannot be used as asked; the message says why."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: what CUDA knows it by, and its model."""

    uuid: str
    model: str


def is_cuda(device: str) -> bool:
    """Whether torch's name of a device means a GPU of CUDA's."""
    return device.partition(":")[0] == "cuda"


def visible_gpus() -> list[Gpu]:
    """The machine's GPUs in nvidia-smi's order; those that `CUDA_VISIBLE_DEVICES` lists, if it is set.

    Raises:
        GpuError: There is none, or it cannot be told which there are.
    """
    gpus = list(_all_gpus())
    if (listed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        gpus = [_listed(word.strip(), gpus) for word in listed.split(",") if word.strip() not in ("", "-1")]
    if not gpus:
        raise GpuError("no GPU is visible: nvidia-smi must list one, and CUDA_VISIBLE_DEVICES must not hide it")
    return gpus


def gpu_model() -> str:
    """The model of the visible GPUs.

    Raises:
        GpuError: There is none, or there are several models, which would give different numbers for the same run.
    """
    models = sorted({gpu.model for gpu in visible_gpus()})
    if len(models) > 1:
        raise GpuError(f"the GPUs differ ({', '.join(models)}); choose those of one model with CUDA_VISIBLE_DEVICES")
    return models[0]


def _listed(word: str, gpus: list[Gpu]) -> Gpu:
    """A GPU by its number or by the beginning of its name, as CUDA takes them."""
    found = [gpu for number, gpu in enumerate(gpus) if word == str(number) or gpu.uuid.startswith(word)]
    if len(found) != 1:
        known = ", ".join(f"{number} ({gpu.uuid})" for number, gpu in enumerate(gpus))
        raise GpuError(f"CUDA_VISIBLE_DEVICES lists {word!r}, must be among {known or 'none'}")
    return found[0]


@cache
def _all_gpus() -> tuple[Gpu, ...]:
    """Asked once: starting nvidia-smi takes a while, and a machine's GPUs stay."""
    command = ["nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise GpuError(f"no GPU can be found: {' '.join(command)} fails ({error})") from error
    lines = [line.partition(",") for line in done.stdout.splitlines() if line.strip()]
    return tuple(Gpu(uuid.strip(), model.strip()) for uuid, _, model in lines)
