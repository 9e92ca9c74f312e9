"""What a session was told by options and configuration, as the suite takes it."""

from pathlib import Path

import pytest

from pytest_claims.plugin.options import CLAIMS_FILE, CLAIMS_RECIPES, option
from pytest_claims.recipes.project import ProjectError, ProjectPlace, find_project
from pytest_claims.suite.suite import SuiteOptions
from pytest_claims.workers.cluster.resources import Cluster


def project_place(config: pytest.Config) -> ProjectPlace:
    """Return where the project's recipes are.

    Raises:
        ProjectError: The setting is missing, or no such module can be found.
    """
    module = config.getini(CLAIMS_RECIPES)
    if not module:
        raise ProjectError(f"{CLAIMS_RECIPES} is not set beside {CLAIMS_FILE}, should name a module with recipes")
    folders = [config.rootpath, *(config.rootpath / path for path in config.getini("pythonpath"))]
    return find_project(module, folders)


def cluster_options(config: pytest.Config) -> Cluster | None:
    """Where runs are made with `--ray`; None without it."""
    address = option(config, "ray")
    return Cluster(address, option(config, "jobs"), option(config, "runs_per_gpu")) if address else None


def suite_options(config: pytest.Config) -> SuiteOptions:
    """Return the options as the suite takes them.

    Raises:
        ProjectError: The project's recipes cannot be found.
    """
    return SuiteOptions(
        project=project_place(config),
        profile=option(config, "profile"),
        store=_path(config, "store_dir") or config.rootpath / ".runs",
        seeds=option(config, "seeds"),
        device=option(config, "device"),
        data_root=_path(config, "data_root"),
        skip_bad_images=option(config, "skip_bad_images"),
        pretrained_weights=_path(config, "pretrained_weights"),
        runs_per_gpu=option(config, "runs_per_gpu"),
        resample=option(config, "resample"),
        until_decided=option(config, "until_decided") or option(config, "at_most") is not None,
        minutes=option(config, "at_most"),
    )


def results_folder(config: pytest.Config) -> Path:
    """Return where tables, plots and report go."""
    return _path(config, "results_dir") or config.rootpath / "results"


def _path(config: pytest.Config, name: str) -> Path | None:
    """An option's path as it is meant by whoever types it: from where pytest was started."""
    text = option(config, name)
    return None if text is None else config.invocation_params.dir / text
