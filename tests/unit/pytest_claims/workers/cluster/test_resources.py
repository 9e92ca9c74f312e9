import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_claims.plugin.session import SUITE_ERRORS
from pytest_claims.workers.cluster.resources import Cluster, ClusterError, Demand, demand

NODES = [{"CPU": 4.0, "memory": 1e9}, {"CPU": 16.0, "GPU": 2.0}, {"memory": 1e9}, {"CPU": 1.0, "GPU": 8.0}]


def test_a_run_on_a_cpu_takes_its_threads():
    needs = demand("cpu", Cluster("local", runs_per_gpu=3))
    assert (needs.cpus, needs.gpus) == (1, 0.0)
    assert str(needs) == "1 CPU"
    assert needs.slots(NODES) == 4 + 16 + 0 + 1


@pytest.mark.parametrize(("runs_per_gpu", "slots"), [(1, 2 + 1), (3, 6 + 1), (20, 16 + 1)])
def test_a_run_on_a_gpu_takes_its_share_of_one(runs_per_gpu, slots):
    needs = demand("cuda", Cluster("local", runs_per_gpu=runs_per_gpu))
    assert str(needs) == "1 CPU and a GPU"
    assert needs.slots(NODES) == slots


@settings(max_examples=50)
@given(st.integers(1, 10_000))
def test_as_many_runs_share_a_gpu_as_were_asked_for(runs_per_gpu):
    # Ray counts in ten-thousandths, to the nearest.
    units = round(Demand(1, runs_per_gpu).gpus * 10_000)
    assert units >= 1
    assert units * runs_per_gpu <= 10_000
    assert math.isclose(units / 10_000, Fraction(1, runs_per_gpu), abs_tol=1e-4)


def test_a_certain_gpu_is_refused():
    with pytest.raises(ClusterError, match=r"--device cuda:1: with --ray it must be cuda") as raised:
        demand("cuda:1", Cluster("local"))
    assert isinstance(raised.value, SUITE_ERRORS)
