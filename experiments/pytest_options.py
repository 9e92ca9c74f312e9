"""The options of the pytest command line that belong to claims."""

import re
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.cluster_resources import LOCAL, Cluster
from experiments.numerics import THREADS_PER_RUN
from experiments.suite import SuiteOptions
from experiments.verdicts import MOST_SEEDS

EXPECTED_RESULTS = "expected_results.json"
"""The file of claims, in the folder of pytest's configuration."""


def add_options(parser: pytest.Parser) -> None:
    """Declares the options, in a group of their own."""
    # Before pytest has read these options, it takes any word that names an existing path for a place of tests.
    title = "claims of the report (-m reproduce); give existing folders and files with '=', as --data-root=FOLDER"
    add = parser.getgroup("claims", title).addoption
    add(
        "--profile",
        default="default",
        metavar="NAME",
        help="data set, budgets and seeds: default (fractal images, 5 seeds), quick (the same in minutes; decides "
        "nothing), tiny, images (a folder of images), food11 (the report's own protocol)",
    )
    add(
        "--seeds",
        type=_seeds,
        metavar="N|LIST",
        help="seeds in place of the profile's: N for 0 to N-1, or a comma-separated list",
    )
    add(
        "--data-root",
        type=partial(_named, "--data-root"),
        metavar="FOLDER",
        help="for the profiles images and food11: holds training/ and validation/, each with <class>_<n>.jpg or one "
        "folder per class",
    )
    add(
        "--skip-bad-images",
        action="store_true",
        help="leave out unreadable images and say which, instead of stopping",
    )
    add(
        "--pretrained-weights",
        type=partial(_named, "--pretrained-weights"),
        metavar="FILE",
        help="for the profiles images and food11: safetensors file of ImageNet's ResNet18, in place of torchvision's "
        "download; layers that it lacks are initialised",
    )
    add(
        "--results-dir",
        type=partial(_named, "--results-dir"),
        metavar="FOLDER",
        help="tables, plots and report go here (default: results, beside pytest's configuration file)",
    )
    add(
        "--store-dir",
        type=partial(_named, "--store-dir"),
        metavar="FOLDER",
        help="finished runs are kept here (default: .runs, beside pytest's configuration file)",
    )
    add(
        "--jobs",
        type=_jobs,
        metavar="N",
        help=f"runs to make side by side (default: xdist's -n, or cores / {THREADS_PER_RUN} thread a run, or GPUs)",
    )
    add(
        "--device",
        type=_device,
        default="cpu",
        metavar="NAME",
        help="what trains: cpu (the default), cuda, or cuda:N",
    )
    add("--plan", action="store_true", help="show what runs the claims need and how long they would take; make none")
    add(
        "--ray",
        type=_ray,
        metavar="ADDRESS",
        help=f"make the runs on the Ray cluster of this machine (HOST:PORT, or auto to find it; {LOCAL} starts one "
        "here); needs the extra [cluster], and on each node nothing but this environment's packages",
    )
    add(
        "--runs-per-gpu",
        type=_runs_per_gpu,
        default=1,
        metavar="N",
        help="with --device cuda: runs that share a GPU (default: 1)",
    )
    add("--retry-failed", action="store_true", help="make runs again that failed before")
    add("--strict-claims", action="store_true", help="fail on inconclusive claims, too")
    add("--record", action="store_true", help=f"write verdicts and measurements into {EXPECTED_RESULTS}")


def _named(option: str, text: str) -> str:
    """A path; an empty one would mean wherever pytest was started."""
    if not text:
        raise pytest.UsageError(f"{option}: is empty, must name a file or folder")
    return text


def _device(text: str) -> str:
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", text):
        raise pytest.UsageError(f"--device {text}: must be cpu, cuda or cuda:N")
    return text


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise pytest.UsageError(f"--seeds {text}: must be a number of seeds, or a list such as 0,1,4")
    if len(parts) == 1 and not 1 <= int(text) <= MOST_SEEDS:
        raise pytest.UsageError(f"--seeds {text}: must be from 1 to {MOST_SEEDS:,} seeds")
    seeds = tuple(range(int(text))) if len(parts) == 1 else tuple(map(int, parts))
    if len(set(seeds)) < len(seeds):
        raise pytest.UsageError(f"--seeds {text}: must have each seed once")
    return seeds


def _jobs(text: str) -> int:
    return _at_least_one("--jobs", text)


def _runs_per_gpu(text: str) -> int:
    return _at_least_one("--runs-per-gpu", text)


def _at_least_one(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise pytest.UsageError(f"{option} {text}: must be a whole number, at least 1")
    return int(text)


def _ray(text: str) -> str:
    if find_spec("ray") is None:
        raise pytest.UsageError(f"--ray {text}: Ray is not installed; install it with pip install '.[cluster]'")
    return text


def cluster_options(config: pytest.Config) -> Cluster | None:
    """Where runs are made with `--ray`; None without it."""
    option = config.option
    return Cluster(option.ray, option.jobs, option.runs_per_gpu) if option.ray else None


def suite_options(config: pytest.Config) -> SuiteOptions:
    """The options as the suite takes them."""
    option = config.option
    return SuiteOptions(
        profile=option.profile,
        store=_path(config, option.store_dir) or config.rootpath / ".runs",
        seeds=option.seeds,
        device=option.device,
        data_root=_path(config, option.data_root),
        skip_bad_images=option.skip_bad_images,
        pretrained_weights=_path(config, option.pretrained_weights),
        runs_per_gpu=option.runs_per_gpu,
    )


def results_folder(config: pytest.Config) -> Path:
    """Where tables, plots and report go."""
    return _path(config, config.option.results_dir) or config.rootpath / "results"


def _path(config: pytest.Config, text: str | None) -> Path | None:
    """A path as it is meant by whoever types it: from where pytest was started."""
    return None if text is None else config.invocation_params.dir / text
