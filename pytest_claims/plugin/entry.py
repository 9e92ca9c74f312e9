"""Where pytest enters: declares settings, and does nothing else in a project that has no claims.

A project has claims if its pytest configuration names a `claims_file`. All other hooks are in `hooks`, which is
imported then and not before.
"""

from collections.abc import Generator
from pathlib import Path

import pytest

from pytest_claims.plugin.options import CLAIMS_FILE, add_options, add_settings


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the settings; the options, too, if a conftest.py brings this plugin in, too late for the hook below."""
    add_settings(parser)
    if any(
        Path(getattr(plugin, "__file__", None) or "").name == "conftest.py" for plugin in pluginmanager.get_plugins()
    ):
        add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Generator[None, object, object]:
    """Declare the options after all other plugins and conftest.py, so that names which they use stay theirs."""
    result = yield
    if early_config.getini(CLAIMS_FILE):
        add_options(parser)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that gives a test its claims; where the project has claims, bring in the other hooks."""
    config.addinivalue_line("markers", "claims(kind): run the test for each claim, of one kind or of all")
    if config.getini(CLAIMS_FILE):
        from pytest_claims.plugin import hooks

        hooks.start(config)
