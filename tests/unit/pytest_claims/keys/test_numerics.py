import json
from pathlib import Path

import pytest
import torch

from pytest_claims.basics.limits import THREADS_PER_RUN
from pytest_claims.keys import numerics
from pytest_claims.keys.numerics import numerics_environment, numerics_text, without_kernel_variables

X86 = "processor\t: 0\nmodel name\t: flags\nflags\t\t: fpu avx fma avx512f avx2\n\nprocessor\t: 1\nflags\t\t: x\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve bf16\n"


@pytest.fixture
def cpu(monkeypatch):
    """Makes the machine's CPU one that tells this of itself."""

    def pretend(text):
        read = Path.read_text

        def read_text(path, *arguments, **options):
            if path != Path("/proc/cpuinfo"):
                return read(path, *arguments, **options)
            if text is None:
                raise FileNotFoundError(path)
            return text

        monkeypatch.setattr(Path, "read_text", read_text)
        numerics._cpu_flags.cache_clear()

    yield pretend
    monkeypatch.undo()
    numerics._cpu_flags.cache_clear()


def test_the_environment_is_json_and_has_all_that_changes_bytes():
    environment = numerics_environment("cpu")
    assert set(environment) == {"torch", "device", "machine", "cpu", "threads", "deterministic"}
    assert json.loads(json.dumps(environment)) == environment
    assert environment["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert environment["threads"] == THREADS_PER_RUN
    assert environment["deterministic"] is True


def test_the_environment_in_one_line():
    environment = {"torch": "2.9.1", "device": "cpu", "machine": "x86_64", "cpu": ["avx", "avx2"], "threads": 1}
    assert numerics_text(environment) == "torch 2.9.1, cpu, x86_64 avx avx2, 1 thread"
    assert "NVIDIA H100" in numerics_text({**environment, "device": "cuda", "gpu": "NVIDIA H100"})


def test_devices_are_told_apart_by_kind_and_model_and_not_by_number(monkeypatch):
    monkeypatch.setattr(numerics, "gpu_model", lambda: "NVIDIA A")
    environment = numerics_environment("cuda:1")
    assert environment == numerics_environment("cuda")
    assert environment == {**numerics_environment("cpu"), "device": "cuda", "gpu": "NVIDIA A"}


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (X86, ["avx", "avx2", "fma", "avx512f"]),
        (ARM, ["asimd", "sve", "bf16"]),
        ("", []),
        (None, []),
    ],
)
def test_the_cpus_instructions_are_told_in_one_order(cpu, text, flags):
    cpu(text)
    assert numerics_environment("cpu")["cpu"] == flags


CHOOSING = (
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA"),
    *("DNNL_MAX_CPU_ISA", "MKLDNN_VERBOSE", "OMP_NUM_THREADS", "KMP_AFFINITY", "GOMP_SPINCOUNT", "OPENBLAS_CORETYPE"),
    *("BLIS_ARCH_TYPE", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_MAX_THREADS", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG", "CUDNN_LOGINFO_DBG", "NVIDIA_TF32_OVERRIDE"),
)
OTHER = ("PATH", "HOME", "PYTHONPATH", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "MY_OMP_NUM_THREADS", "OMP", "omp_x")


def test_an_environment_is_left_without_what_chooses_kernels_and_with_all_else():
    environment = dict.fromkeys((*CHOOSING, *OTHER), "x")
    assert without_kernel_variables(environment) == dict.fromkeys(OTHER, "x")
    assert environment.keys() == {*CHOOSING, *OTHER}
