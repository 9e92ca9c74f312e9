"""Where runs go with `--ray`, what each takes there, and how many fit at once. No Ray, no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_claims.basics.limits import THREADS_PER_RUN
from pytest_claims.workers.driver import WorkersError

_GPU_PARTS = 10_000
"""Into which Ray divides a GPU."""


class ClusterError(WorkersError):
    """The cluster cannot make the runs; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """What a user chose.

    Attributes:
        address: Of the cluster, as Ray takes it (HOST:PORT or `auto`), or `LOCAL`.
        jobs: Most runs at once; None for as many as the nodes have room for.
        runs_per_gpu: Runs that share a GPU.
    """

    address: str
    jobs: int | None = None
    runs_per_gpu: int = 1


@dataclass(frozen=True)
class Demand:
    """What a run takes of a node: cores, and the share of a GPU as one of `runs_per_gpu` (0 where it needs none)."""

    cpus: int
    runs_per_gpu: int

    @property
    def gpus(self) -> float:
        """The share as Ray takes it, rounded down: of six that are rounded up, only five would fit."""
        return _GPU_PARTS // self.runs_per_gpu / _GPU_PARTS if self.runs_per_gpu else 0.0

    def __str__(self) -> str:
        cpus = f"{self.cpus} CPU"
        return f"{cpus} and a GPU" if self.runs_per_gpu else cpus

    def slots(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """How many runs fit on nodes at once, of which each has a total of `CPU` and perhaps `GPU`."""
        return sum(self._on_node(node) for node in nodes)

    def _on_node(self, node: Mapping[str, float]) -> int:
        by_cpu = int(node.get("CPU", 0)) // self.cpus
        return min(by_cpu, int(node.get("GPU", 0)) * self.runs_per_gpu) if self.runs_per_gpu else by_cpu


def demand(device: str, cluster: Cluster) -> Demand:
    """What each run takes.

    Args:
        device: Torch's name of the device that trains.
        cluster: Tells how many runs share a GPU.

    Raises:
        ClusterError: The name is of one certain GPU.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda" and number:
        raise ClusterError(f"--device {device}: with --ray it must be cuda, since Ray chooses each run's GPU")
    return Demand(THREADS_PER_RUN, cluster.runs_per_gpu if kind == "cuda" else 0)
