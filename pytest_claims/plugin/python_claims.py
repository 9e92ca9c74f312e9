"""Claims in Python, for what the file can't say: tests whose arguments are models.

    def test_half_keeps_f1(claim, lenet, lenet_half):
        claim(lenet_half["macro_f1"] - lenet["macro_f1"], above=-0.01)

A model's measurements are a pandas Series, one number a seed, so that arithmetic pairs seeds. Such a claim has no
record: if it is refuted, its test fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_claims.claims.claim import bounds_text, number_text
from pytest_claims.claims.operands import check_either, check_equal_within, open_region, region_between
from pytest_claims.plugin.outcomes import Outcome
from pytest_claims.plugin.session import SUITE_ERRORS, ClaimSession
from pytest_claims.report.text import judged_text
from pytest_claims.verdicts.judging import Case, judge_suite
from pytest_claims.verdicts.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

OUTCOME = "claim outcome"
TOLD = "claim in Python"
"""Property of a test: what was found, in one line."""

_OUTCOMES = {Verdict.INCONCLUSIVE: Outcome.INCONCLUSIVE, Verdict.EQUAL: Outcome.EQUAL}

session_key = pytest.StashKey[ClaimSession]()


@dataclass(frozen=True)
class Model:
    """A model as an argument of a test."""

    name: str
    session: ClaimSession

    def __getitem__(self, measure: str) -> pd.Series[float]:
        """Return a measure's numbers, one a seed.

        Raises:
            ClaimsError: A run could not be made, or has no such measure.
        """
        return self.session.measurements(self.name, measure)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that claims something the models that its arguments name.

    Raises:
        CollectError: The user's files or options are at fault; it is shown without a traceback.
    """
    if "claim" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("claims"):
        return
    session = metafunc.config.stash[session_key]
    try:
        catalog = session.suite.catalog
    except SUITE_ERRORS as error:
        raise pytest.Collector.CollectError(str(error)) from error
    for name in metafunc.fixturenames:
        model = next((known for known in (name, name.replace("_", "-")) if known in catalog), None)
        if model:
            metafunc.parametrize(name, [Model(model, session)], ids=[pytest.HIDDEN_PARAM])


def models_of(items: Iterable[pytest.Item]) -> list[str]:
    """Return the models that the arguments of some tests name, each once."""
    params = (value for item in items if isinstance(item, pytest.Function) for value in _params(item))
    return list(dict.fromkeys(value.name for value in params if isinstance(value, Model)))


def _params(item: pytest.Function) -> Iterable[object]:
    return item.callspec.params.values() if hasattr(item, "callspec") else ()


@pytest.fixture
def claim(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Judge numbers, one a seed, by where their mean should lie; ends the test with the verdict's outcome."""

    def judge(
        samples: Iterable[float],
        *,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        equal_within: float | None = None,
        **others: object,
    ) -> None:
        if others:
            raise TypeError(f"claim() takes above, at_least, at_most and equal_within, not {', '.join(others)}")
        check_either("above", above, "at_least", at_least, "at_most", at_most)
        region = region_between(at_least, at_most) if above is None else open_region(above)
        check_equal_within(equal_within, region)
        session = request.config.stash[session_key]
        numbers = tuple(map(float, samples))
        case = Case((numbers,), region, equality=equal_within)
        judgement = judge_suite({"claim": case}, family_size=session.family_size + 1)["claim"]
        expected = bounds_text(at_least, at_most) if above is None else f"> {number_text(above)}"
        told = judged_text(judgement, expected, equal_within)
        request.node.user_properties.append((TOLD, f"{request.node.name}: {told}"))
        strict = request.config.getoption("claims_strict")
        if judgement.verdict is Verdict.REFUTED or (judgement.verdict is Verdict.INCONCLUSIVE and strict):
            pytest.fail(told, pytrace=False)
        if judgement.verdict in _OUTCOMES:
            request.node.user_properties.append((OUTCOME, str(_OUTCOMES[judgement.verdict])))

    return judge


class Told:
    """Collects what was found of claims in Python, here or, under xdist, in any worker."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test tells."""
        if report.when == "call":
            self.lines += [str(value) for name, value in report.user_properties if name == TOLD]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print it."""
        if self.lines:
            terminalreporter.section("claims in Python")
            for line in self.lines:
                terminalreporter.write_line(line)
