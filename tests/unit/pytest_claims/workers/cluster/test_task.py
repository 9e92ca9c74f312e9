import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_runs import fill, suite_without_data, tiny_suite
from our_project import OURS

from pytest_claims.datasets.dataset import Dataset, DatasetError, Split, content_hash, save_dataset
from pytest_claims.datasets.preparation import PreparedData
from pytest_claims.keys.numerics import numerics_environment
from pytest_claims.store import DamagedRunError, Failure, Store, run_files
from pytest_claims.suite.planning import lineage
from pytest_claims.suite.suite import SuiteOptions
from pytest_claims.training.checkpoints import Checkpoint, write_checkpoint
from pytest_claims.training.context import Built
from pytest_claims.training.training_state import Snapshot
from pytest_claims.workers import worker
from pytest_claims.workers.cluster import task as cluster_task
from pytest_claims.workers.cluster.task import Inputs, Job, Made, make_in_folder, refusal, session_folder

NODE = "east (10.0.0.7)"


def images(seed):
    random = np.random.default_rng(seed)
    return Split(random.integers(0, 256, (2, 32, 32, 3), np.uint8), np.arange(2, dtype=np.int64))


@pytest.fixture
def data():
    return Dataset(("a", "b"), images(0), images(1))


@pytest.fixture
def suite(tmp_path, data):
    suite = suite_without_data(tmp_path / "driver")
    path = tmp_path / "data.safetensors"
    save_dataset(data, path)
    suite.data = lambda role, seed: PreparedData(path, content_hash(data))
    suite.data_identity = lambda role, seed: content_hash(data)
    return suite


def job_of(suite, model="student-distilled-scratch", seed=1):
    plan = suite.plan({model: (seed,)})
    planned = plan.runs[plan.keys[model][0]]
    needed, here = lineage(plan, planned), numerics_environment(suite.options.device)
    return Job("session", planned, needed, suite.options, suite.data_of(planned.run), here)


def inputs_of(suite, job):
    stored = [suite.store.load(key) for key in job.lineage]
    return Inputs(np.fromfile(suite.data("target", 1).path, np.uint8), None, tuple(map(run_files, stored)))


@pytest.fixture(autouse=True)
def environment():
    """A node's process is told how to compute; this one has other tests to run."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


class Maker:
    """Takes the place of the builders; keeps what it was given."""

    def __init__(self, error=None):
        self.error, self.contexts = error, []

    def __call__(self, context):
        self.contexts.append(context)
        if self.error:
            raise self.error
        return Built({"weight": torch.full((2,), float(context.seed))}, {"accuracy": 80.0, "parameters": 2})


def use(monkeypatch, maker):
    monkeypatch.setattr(worker, "make", maker)
    # Torch's settings belong to a process, and this one has other tests to run.
    monkeypatch.setattr("pytest_claims.workers.making.make_deterministic", lambda: None)
    return maker


def make(job, tmp_path, inputs, events=None):
    told = [] if events is None else events
    return make_in_folder(job, tmp_path / "node", NODE, inputs, lambda event, **fields: told.append((event, fields)))


def test_a_node_makes_a_run_of_what_it_was_sent(suite, data, tmp_path, monkeypatch):
    fill(suite, {"teacher-scratch": (1,)})
    job = job_of(suite)
    inputs = inputs_of(suite, job)
    suite.data("target", 1).path.unlink()
    maker = use(monkeypatch, Maker())
    made = make(job, tmp_path, inputs)
    assert isinstance(made, Made)
    assert made.node == NODE
    (context,) = maker.contexts
    assert (context.seed, context.recipe) == (1, job.planned.run.recipe)
    assert content_hash(context.dataset) == content_hash(data)
    (key,) = job.planned.parents.values()
    assert context.parents["teacher"].weights == tmp_path / "node" / "runs" / key / "weights.safetensors"
    assert context.parents["teacher"].weights.read_bytes() == suite.store.load(key).weights.read_bytes()
    added = suite.store.add(job.planned.key, made.files)
    assert added.measurements == {"accuracy": 80.0, "parameters": 2, "bytes": added.weights.stat().st_size}
    assert added.provenance["profile"] == "tiny"
    assert added.provenance["data"] == content_hash(data)
    assert dict(added.provenance["parents"]) == dict(job.planned.parents)


def test_a_node_computes_on_one_thread_with_the_kernels_that_its_cpu_has(suite, tmp_path, monkeypatch):
    for name, value in {"OMP_NUM_THREADS": "64", "ATEN_CPU_CAPABILITY": "default", "UNRELATED": "kept"}.items():
        monkeypatch.setenv(name, value)
    seen = {}

    def maker(context):
        seen.update(os.environ)
        return Maker()(context)

    use(monkeypatch, maker)
    job = job_of(suite, "student-scratch")
    assert isinstance(make(job, tmp_path, inputs_of(suite, job)), Made)
    assert (seen["OMP_NUM_THREADS"], seen["MKL_NUM_THREADS"], seen["UNRELATED"]) == ("1", "1", "kept")
    assert "ATEN_CPU_CAPABILITY" not in seen


def test_a_node_tells_how_far_it_is(suite, tmp_path, monkeypatch):
    job = job_of(suite, "student-scratch")
    use(monkeypatch, Maker())
    events = []
    make(job, tmp_path, inputs_of(suite, job), events)
    assert events == [("start", {"key": job.planned.key}), ("done", {"key": job.planned.key})]


def test_a_run_that_is_in_the_nodes_folder_is_not_made_again(suite, tmp_path, monkeypatch):
    job = job_of(suite, "student-scratch")
    maker = use(monkeypatch, Maker())
    first = make(job, tmp_path, inputs_of(suite, job))
    assert make(job, tmp_path, inputs_of(suite, job)) == first
    assert len(maker.contexts) == 1


def test_a_run_goes_on_from_the_checkpoint_that_a_killed_worker_left_on_the_node(suite, tmp_path, monkeypatch):
    job = job_of(suite, "student-scratch")
    left = Snapshot({"weight": torch.ones(3)}, "position")
    write_checkpoint(Store(tmp_path / "node").checkpoint(job.planned.key), Checkpoint(left, 100.0))
    resumed = []

    def maker(context):
        resumed.append(context.watcher.resume())
        return Built({"weight": torch.ones(2)}, {"accuracy": 80.0, "parameters": 2})

    use(monkeypatch, maker)
    made = make(job, tmp_path, inputs_of(suite, job))
    (snapshot,) = resumed
    assert snapshot.position == "position"
    assert suite.store.add(job.planned.key, made.files).provenance["seconds"] >= 100


def test_a_run_that_raises_comes_back_as_its_failure(suite, tmp_path, monkeypatch):
    job = job_of(suite, "student-scratch")
    use(monkeypatch, Maker(ValueError("too hot")))
    result = make(job, tmp_path, inputs_of(suite, job))
    assert isinstance(result, Failure)
    expected = r"student-scratch \(seed 1\): ValueError: too hot \(test_task\.py, line \d+\)"
    assert re.fullmatch(expected, result.message)
    assert "in __call__" in result.traceback


def test_a_damaged_parent_is_refused_before_anything_is_made(suite, tmp_path, monkeypatch):
    fill(suite, {"teacher-scratch": (1,)})
    job = job_of(suite)
    inputs = inputs_of(suite, job)
    (parent,) = inputs.parents
    maker = use(monkeypatch, Maker())
    damaged = replace(inputs, parents=({**parent, "weights.safetensors": b"other"},))
    with pytest.raises(DamagedRunError, match=r"weights\.safetensors: its hash is not the one in manifest\.json"):
        make(job, tmp_path, damaged)
    assert maker.contexts == []


def test_other_data_is_refused_before_anything_is_made(suite, data, tmp_path, monkeypatch):
    job = job_of(suite, "student-scratch")
    save_dataset(replace(data, training=images(2)), tmp_path / "other.safetensors")
    maker = use(monkeypatch, Maker())
    other = Inputs(np.fromfile(tmp_path / "other.safetensors", np.uint8), None, ())
    with pytest.raises(DatasetError, match=rf"expected {job.data.file_identity}"):
        make(job, tmp_path, other)
    assert maker.contexts == []


def test_pretrained_weights_are_sent_by_content(suite, tmp_path, monkeypatch):
    job = job_of(suite, "student")
    folder, weights = tmp_path / "nowhere", tmp_path / "driver" / "weights"
    options = replace(job.options, profile="images", data_root=folder, pretrained_weights=weights)
    job = replace(job, options=options)
    maker = use(monkeypatch, Maker())
    make(job, tmp_path, Inputs(None, np.frombuffer(b"imagenet", np.uint8), ()))
    (context,) = maker.contexts
    assert context.weights_file.is_relative_to(tmp_path / "node")
    assert context.weights_file.read_bytes() == b"imagenet"


def test_a_profile_of_images_needs_no_folder_of_images_on_a_node(suite, tmp_path, monkeypatch):
    options = SuiteOptions(OURS, "images", suite.options.store, data_root=tmp_path / "nowhere")
    images_suite = type(suite)(options)
    images_suite.data = suite.data
    job = job_of(images_suite, "student-scratch")
    use(monkeypatch, Maker())
    made = make(job, tmp_path, inputs_of(suite, job))
    assert suite.store.add(job.planned.key, made.files).provenance["profile"] == "images"


def test_a_node_that_computes_differently_is_told_of_by_name(suite, tmp_path, monkeypatch):
    job = job_of(suite, "student-scratch")
    assert refusal(job, NODE) == ""
    here = numerics_environment("cpu")
    monkeypatch.setattr(cluster_task, "numerics_environment", lambda device: {**here, "torch": "1.0", "cpu": ["avx"]})
    maker = use(monkeypatch, Maker())
    result = make(job, tmp_path, Inputs(None, None, ()))
    assert result.message == (
        f"node {NODE}: would make student-scratch (seed 1) with other numbers than the machine that runs pytest: "
        f"cpu is ['avx'], not {here['cpu']!r}; torch is '1.0', not {here['torch']!r}"
    )
    assert maker.contexts == []
    assert not (tmp_path / "node").exists()


def test_a_node_with_other_code_is_told_of_by_name(suite):
    job = job_of(suite, "student-scratch")
    planned = replace(job.planned, key=job.planned.key[::-1])
    assert refusal(replace(job, planned=planned), NODE).startswith(f"node {NODE}: has other code for student-scratch")
    assert refusal(replace(job, data=replace(job.data, file_identity="0" * 64)), NODE) != ""


def test_a_folder_belongs_to_one_session_on_one_node():
    folders = {session_folder(session, node) for session in ("a", "b") for node in ("0" * 56, "1" * 56)}
    assert len(folders) == 4


def test_a_run_needs_no_data_if_its_recipe_needs_none(tmp_path, monkeypatch):
    job = job_of(tiny_suite_without_files(tmp_path), "student")
    maker = use(monkeypatch, Maker())
    assert isinstance(make(job, tmp_path, Inputs(None, None, ())), Made)
    assert maker.contexts[0].dataset is None
    assert Store(tmp_path / "node").holds(job.planned.key)


def tiny_suite_without_files(tmp_path):
    suite = tiny_suite(tmp_path / "driver")
    suite.data = lambda role, seed: PreparedData(tmp_path / role, role)
    return suite
