"""Which runs some profiles would read, so that all others can go."""

from collections.abc import Iterable

from pytest_claims.suite.suite import Suite, SuiteOptions


def reachable_keys(profiles: Iterable[SuiteOptions]) -> set[str]:
    """Return the keys of all runs that some profiles' recipes give with today's code, data and machine.

    Raises:
        ProfileError: A profile is unknown, or needs an option that is missing.
        DatasetError: Its images cannot be read.
    """
    keys: set[str] = set()
    for options in profiles:
        suite = Suite(options)
        keys.update(suite.plan(dict.fromkeys(suite.catalog, suite.seeds)).runs)
    return keys
