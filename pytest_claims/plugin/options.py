"""The options of the pytest command line, and the settings in its configuration file, that belong to claims.

Every session of pytest imports this, whether its project has claims or not, so it imports little.
"""

import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

from pytest_claims.basics.limits import LOCAL, MOST_SEEDS, THREADS_PER_RUN

CLAIMS_FILE = "claims_file"
CLAIMS_RECIPES = "claims_recipes"

_PREFIX = "claims_"
"""Of the options' names inside pytest, so that they are nobody else's."""

_SHORT = {"strict": "--strict-claims"}
"""Where the short name is not the long one without `claims`."""


def add_settings(parser: pytest.Parser) -> None:
    """Declare what the configuration file may say."""
    parser.addini(CLAIMS_FILE, "the file of claims, in the folder of this configuration (claims are off without it)")
    parser.addini(CLAIMS_RECIPES, "dotted name of the module that has the recipes of the claims' models")


def add_options(parser: pytest.Parser) -> None:
    """Declare the options.

    Each has a long name, such as `--claims-profile`, and a short one, `--profile`, unless something else has that.
    """
    taken = _taken_names(parser)
    title = "claims of a report; give existing folders and files with '=', as --data-root=FOLDER"
    group = parser.getgroup("claims", title)

    def add(name: str, **settings: Any) -> None:
        names = [f"--claims-{name}", _SHORT.get(name, f"--{name}")]
        free = [each for each in names if each not in taken]
        group.addoption(*free, dest=_PREFIX + name.replace("-", "_"), **settings)

    _add_choices(add)
    _add_places(add)
    _add_making(add)
    _add_judging(add)


def _taken_names(parser: pytest.Parser) -> set[str]:
    """The options of other plugins; pytest has no public way to ask for them."""
    groups = [*parser._groups, parser._anonymous]
    return {name for group in groups for option in group.options for name in option.names()}


def _add_choices(add: Callable[..., None]) -> None:
    add(
        "profile",
        default="default",
        metavar="NAME",
        help="data set, budgets and seeds, as the project names them",
    )
    add(
        "seeds",
        type=_seeds,
        metavar="N|LIST",
        help="seeds in place of the profile's: N for 0 to N-1, or a comma-separated list; none are added to them",
    )
    add(
        "until-decided",
        action="store_true",
        help="add seeds for claims that are not decided, the cheapest decision first, until all are or time is up",
    )
    add(
        "at-most",
        type=_minutes,
        metavar="TIME",
        help="for how long seeds are added, such as 90s, 60m or 2h (default: the profile's, or 60m)",
    )
    add("plan", action="store_true", help="show what runs the claims need and how long they would take; make none")


def _add_places(add: Callable[..., None]) -> None:
    add(
        "data-root",
        type=partial(_named, "--data-root"),
        metavar="FOLDER",
        help="for profiles of image folders: holds training/ and validation/, each with <class>_<n>.jpg or one folder "
        "per class",
    )
    add(
        "skip-bad-images",
        action="store_true",
        help="leave out unreadable images and say which, instead of stopping",
    )
    add(
        "resample",
        action="store_true",
        help="let each seed divide the images anew into training and validation, of each class as many as before",
    )
    add(
        "pretrained-weights",
        type=partial(_named, "--pretrained-weights"),
        metavar="FILE",
        help="safetensors file of weights, for profiles whose models start from some",
    )
    add(
        "results-dir",
        type=partial(_named, "--results-dir"),
        metavar="FOLDER",
        help="tables, plots and report go here (default: results, beside pytest's configuration file)",
    )
    add(
        "store-dir",
        type=partial(_named, "--store-dir"),
        metavar="FOLDER",
        help="finished runs are kept here (default: .runs, beside pytest's configuration file)",
    )


def _add_making(add: Callable[..., None]) -> None:
    add(
        "jobs",
        type=_jobs,
        metavar="N",
        help=f"runs to make side by side (default: xdist's -n, or cores / {THREADS_PER_RUN} thread a run, or GPUs)",
    )
    add(
        "device",
        type=_device,
        default="cpu",
        metavar="NAME",
        help="what trains: cpu (the default), cuda, or cuda:N",
    )
    add(
        "ray",
        type=_ray,
        metavar="ADDRESS",
        help=f"make the runs on the Ray cluster of this machine (HOST:PORT, or auto to find it; {LOCAL} starts one "
        "here); needs the extra [cluster], and on each node nothing but this environment's packages",
    )
    add(
        "runs-per-gpu",
        type=_runs_per_gpu,
        default=1,
        metavar="N",
        help="with --device cuda: runs that share a GPU (default: 1)",
    )
    add("retry-failed", action="store_true", help="make runs again that failed before")


def _add_judging(add: Callable[..., None]) -> None:
    add("strict", action="store_true", help="fail on inconclusive claims, too")
    add("record", action="store_true", help="write verdicts and measurements into the file of claims")


def option(config: pytest.Config, name: str) -> Any:
    """Return an option's value by its name, such as `data_root`."""
    return config.getoption(_PREFIX + name)


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


def _minutes(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    if match is None:
        raise pytest.UsageError(f"--at-most {text}: must be a time such as 90s, 60m or 2h")
    return float(match[1]) * {"s": 1 / 60, "m": 1.0, "h": 60.0}[match[2]]


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
        raise pytest.UsageError(f"--ray {text}: Ray is not installed; install it with pip install ray")
    return text
