import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from training_watchers import Recorder

from experiments.builders import train
from experiments.workbench.context import built, setting
from pytest_claims.basics.limits import THREADS_PER_RUN
from pytest_claims.datasets.fractal import FractalSpec, make_fractal_dataset
from pytest_claims.recipes.recipe import Architecture, Augmentation, Budget, Recipe
from pytest_claims.training.context import Built, Context, builder_of
from pytest_claims.training.training import Unwatched
from pytest_claims.training.training_state import Epoch
from pytest_claims.workers.making import history_csv, make, make_deterministic, write_weights

BUDGET = Budget(2, 8, "sgd", 0.1, 5e-4, "cosine", "float32", Augmentation(0.06, 15.0, True, 2))
CNN = Architecture("experiments.models.question4", (("kind", "depthwise"), ("parameters", 3000)))


def context(seed=0, watcher=None):
    dataset = make_fractal_dataset(FractalSpec(0, 2, 8, 4, 8, jitter=0.1, noise=0.02))
    return Context(
        Recipe("experiments.builders.train", CNN, "target", BUDGET),
        seed,
        {},
        dataset,
        torch.device("cpu"),
        watcher or Unwatched(),
    )


@pytest.fixture
def deterministic():
    """Torch's settings for making runs; afterwards as they were."""
    threads, algorithms = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory
    make_deterministic()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(algorithms)
    torch.utils.deterministic.fill_uninitialized_memory = filling


@pytest.mark.usefixtures("deterministic")
def test_torch_is_told_to_be_deterministic():
    assert torch.get_num_threads() == THREADS_PER_RUN
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.usefixtures("deterministic")
def test_the_same_context_gives_the_same_bytes(tmp_path):
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(len(files) + 1)
        made = make(context(seed))
        write_weights(made, tmp_path / name)
        files.append(((tmp_path / name).read_bytes(), history_csv(made.history)))
    assert files[0] == files[1]
    assert files[0][0] != files[2][0]
    assert files[0][1] != files[2][1]


def test_a_maker_is_found_by_its_module_and_tells_its_epochs():
    watcher = Recorder()
    made = make(context(watcher=watcher))
    assert [advance.epoch for advance in watcher.told if advance.epoch] == made.history
    assert len(made.history) == BUDGET.epochs
    absent = context()
    object.__setattr__(absent, "recipe", Recipe("experiments.builders.shrink", CNN))
    with pytest.raises(ModuleNotFoundError, match=r"experiments\.builders\.shrink"):
        make(absent)


def test_a_maker_may_be_a_function_of_a_module():
    function = replace(context(), recipe=Recipe("experiments.workbench.context:setting", CNN))
    assert builder_of(function.recipe) is setting
    assert builder_of(context().recipe) is train.build


@pytest.mark.parametrize(("bits", "width"), [(32, 4), (16, 2), (8, 1)])
def test_weights_are_written_as_the_builder_says(tmp_path, bits, width):
    made = built({"weight": torch.linspace(-1, 1, 1000)}, {}, bits=bits)
    size = write_weights(made, tmp_path / "weights")
    assert size == (tmp_path / "weights").stat().st_size
    assert max(load_file(tmp_path / "weights").values(), key=len).element_size() == width
    assert 1000 * width < size < 1000 * width + 400


def test_weights_that_nobody_writes_are_a_safetensors_file_of_the_state_dict(tmp_path):
    weight = torch.arange(12.0).reshape(3, 4)
    state = {"weight": weight, "tied": weight, "turned": weight.T, "count": torch.tensor(3)}
    size = write_weights(Built(state, {}), tmp_path / "weights")
    assert size == (tmp_path / "weights").stat().st_size
    stored = load_file(tmp_path / "weights")
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], value) for name, value in state.items())
    assert all(stored[name].dtype == value.dtype for name, value in state.items())


def test_a_history_comes_back_from_csv_to_the_last_bit():
    random = np.random.default_rng(0)
    rows = [[number + 1, *map(float, random.random(3) * 10.0 ** random.integers(-9, 9, 3))] for number in range(20)]
    history = [Epoch(*row) for row in rows]
    table = pd.read_csv(io.StringIO(history_csv(history)), engine="python")  # C's may be off in the last bit
    assert list(table.columns) == ["epoch", "loss", "training_accuracy", "accuracy"]
    assert table.to_numpy().tolist() == rows


def test_an_epoch_that_was_not_evaluated_has_no_accuracy():
    table = pd.read_csv(io.StringIO(history_csv([Epoch(1, 0.5, 90.0, None), Epoch(2, 0.25, 95.0, 80.0)])))
    assert table["accuracy"].isna().tolist() == [True, False]
    assert table["accuracy"][1] == 80.0


def test_a_run_without_epochs_has_the_header_alone():
    assert pd.read_csv(io.StringIO(history_csv([]))).empty
    assert history_csv([]).count("\n") == 1
