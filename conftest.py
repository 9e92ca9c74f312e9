"""Leaves the unit tests alone where only claims are asked for: they import torch, which takes seconds."""

from pathlib import Path

import pytest

pytest_plugins = ["pytest_claims.plugin.entry"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore all tests but those in `tests/reproduce` under `-m reproduce`."""
    only_claims = config.option.markexpr.strip() == "reproduce"
    is_other = collection_path.parent == config.rootpath / "tests" and collection_path.name != "reproduce"
    return True if only_claims and is_other else None
