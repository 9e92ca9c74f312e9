"""Where pytest enters: declares options, and does nothing else in a project that has no claims.

A project has claims if its pytest configuration names a `claims_file`. All other hooks are in `hooks`, which is
imported then and not before.
"""

import pytest

from pytest_claims.plugin.options import CLAIMS_FILE, add_options


@pytest.hookimpl(trylast=True)
def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, after other plugins, so that names which they use stay theirs."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that gives a test its claims; where the project has claims, bring in the other hooks."""
    config.addinivalue_line("markers", "claims(kind): run the test for each claim, of one kind or of all")
    if config.getini(CLAIMS_FILE):
        from pytest_claims.plugin import hooks

        hooks.start(config)
