"""The pytest plugin: claims become tests, their runs are made before the first, verdicts become outcomes."""

import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from pytest_claims.claims.claim import Claim
from pytest_claims.plugin import python_claims
from pytest_claims.plugin.options import CLAIMS_FILE, option
from pytest_claims.plugin.outcomes import Outcome, beside_record, outcome, recorded_verdict
from pytest_claims.plugin.python_claims import OUTCOME, models_of, session_key
from pytest_claims.plugin.session import SUITE_ERRORS, ClaimSession
from pytest_claims.plugin.settings import cluster_options, results_folder, suite_options
from pytest_claims.report import write_results
from pytest_claims.report.terminal import print_claims
from pytest_claims.report.text import explanation
from pytest_claims.suite.forecast_table import print_forecast, print_open_claims
from pytest_claims.suite.judging import Finding

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

_CLAIM = "claim"

_STATUSES: Mapping[object, tuple[str, str, tuple[str, dict[str, bool]]]] = {
    str(Outcome.EQUAL): ("equal", "=", ("EQUAL", {"cyan": True})),
    str(Outcome.INCONCLUSIVE): ("inconclusive", "I", ("INCONCLUSIVE", {"yellow": True})),
}
"""What pytest counts, prints, and prints in verbose sessions of outcomes that it does not know."""

_reported = pytest.StashKey["_Reported"]()
_unwritten = pytest.StashKey[str]()
"""Why results could not be written."""


def start(config: pytest.Config) -> None:
    """Take in the options, and register these hooks."""
    if option(config, "plan"):
        config.option.dist = "no"  # before xdist would start workers that have nothing to do
    with _usage_errors():
        config.stash[session_key] = ClaimSession(config.rootpath / config.getini(CLAIMS_FILE), suite_options(config))
    config.stash[_reported] = _Reported()
    config.pluginmanager.register(config.stash[_reported], "reported-claims")
    config.pluginmanager.register(sys.modules[__name__], "claims-hooks")
    config.pluginmanager.register(python_claims, "claims-in-python")
    config.pluginmanager.register(python_claims.Told(), "claims-in-python-told")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Reads the claims, since an error while collecting would be shown with a traceback, or under xdist not at all."""
    with _usage_errors():
        _ = session.config.stash[session_key].claims


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes one test of each claim of the marker's kind, or of each claim where it has none."""
    marker = metafunc.definition.get_closest_marker("claims")
    if marker is None:
        return
    session = metafunc.config.stash[session_key]
    claims = [claim for claim in session.claims if claim.kind in (marker.args or (claim.kind,))]
    session.tested.update(claim.id for claim in claims)
    metafunc.parametrize("claim", claims, ids=[claim.id for claim in claims])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Writes on each test which claim it judges, for its reports."""
    for item in items:
        if (claim := _claim_of(item)) is not None:
            item.user_properties.append((_CLAIM, claim.id))


def _claim_of(item: pytest.Item) -> Claim | None:
    """The claim that a test was made for; a parameter that only has the same name is none.

    Nor has pytest's placeholder for a kind of which there are no claims.
    """
    if item.get_closest_marker("claims") is None or not isinstance(item, pytest.Function):
        return None
    claim = item.callspec.params["claim"]
    return claim if isinstance(claim, Claim) else None


def _claim_in(node_id: str) -> str:
    """The claim's id in a test's, for xdist's controller, which has no tests but their ids."""
    return node_id.rpartition("[")[2].removesuffix("]")


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Makes what runs the selected claims need before the first test; the tests then only read and judge.

    With `--plan` it shows them instead, and from here on the session ends as with `--collect-only`.
    """
    config = session.config
    claims = [claim for item in session.items if (claim := _claim_of(item)) is not None]
    models = models_of(session.items)
    if option(config, "plan"):
        config.option.collectonly = True
        ended = yield
        _show_plan(config, claims, models)
        return ended
    if not hasattr(config, "workerinput"):
        _build(config, claims, option(config, "jobs"), models)
    return (yield)


def _show_plan(config: pytest.Config, claims: Sequence[Claim], models: Sequence[str]) -> None:
    session, console = config.stash[session_key], _console(config)
    jobs = option(config, "jobs") or config.getoption("numprocesses", None)
    with _usage_errors(), console.status("reading the data and the run store"):
        retry = option(config, "retry_failed")
        forecast = session.forecast(claims, jobs, retry_failed=retry, models=models)
    for warning in session.suite.warnings:
        console.out(f"warning: {warning}", highlight=False)
    print_forecast(forecast, console)
    if session.suite.looks and (claims or models):
        print_open_claims(session.open_claims(claims, jobs), len(session.suite.seeds), console)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: "WorkerController", ids: Sequence[str]) -> None:
    """Makes the runs under xdist, before its workers are given tests.

    The controller does it for them all: so there is one display of how far it is, one error if it goes wrong, and
    whoever interrupts the session ends the makers, too.
    """
    selected = {_claim_in(id_) for id_ in ids}
    claims = [claim for claim in node.config.stash[session_key].claims if claim.id in selected]
    _build(node.config, claims, option(node.config, "jobs") or node.config.option.numprocesses)


def _build(config: pytest.Config, claims: Sequence[Claim], jobs: int | None, models: Sequence[str] = ()) -> None:
    if (claims or models) and not config.option.collectonly:
        retry, cluster = option(config, "retry_failed"), cluster_options(config)
        with _usage_errors():
            config.stash[session_key].build(
                claims, jobs, _console(config), retry_failed=retry, cluster=cluster, models=models
            )


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Ends the session with one line in place of a traceback where a user's files or options are at fault."""
    try:
        yield
    except SUITE_ERRORS as error:
        raise pytest.UsageError(str(error)) from error


def _console(config: pytest.Config) -> Console:
    """A console on what pytest writes to, whatever is captured; it may be coloured and yet be no terminal."""
    writer = config.get_terminal_writer()
    file = writer._file
    # A terminal shows Ctrl-C where the cursor is; wrapped, it would shift what the live display takes away.
    width = writer.fullwidth - len("^C") if writer.hasmarkup else 120
    return Console(file=file, force_terminal=writer.hasmarkup, force_interactive=file.isatty(), width=width)


@pytest.fixture(scope="session")
def findings(pytestconfig: pytest.Config) -> dict[str, Finding]:
    """What was found of each claim, by id."""
    return dict(pytestconfig.stash[session_key].findings)


@pytest.fixture
def finding(claim: Claim, findings: dict[str, Finding]) -> Finding:
    """What was found of the test's claim; an error where its runs could not be made."""
    found = findings[claim.id]
    if found.verdict is None:
        pytest.fail(found.reason, pytrace=False)
    return found


@pytest.fixture
def settle(request: pytest.FixtureRequest) -> Callable[[Finding], None]:
    """Ends the test with the outcome that the finding has beside what is recorded."""
    config = request.config

    def settle_finding(found: Finding) -> None:
        profile = option(config, "profile")
        recorded = found.verdict if option(config, "record") else recorded_verdict(found, profile)
        result = outcome(found, recorded, strict=option(config, "strict"))
        request.node.user_properties.append((OUTCOME, str(result)))
        reason = f"{explanation(found)}; {beside_record(recorded, profile)}"
        match result:
            case Outcome.FAILED:
                pytest.fail(reason, pytrace=False)
            case Outcome.XFAILED:
                # A mark, not `pytest.xfail`: that would let the claim pass under --runxfail.
                request.node.add_marker(pytest.mark.xfail(reason=reason))
                pytest.fail(reason, pytrace=False)
            case Outcome.SKIPPED:
                pytest.skip(f"{found.verdict}: {found.reason}")

    return settle_finding


@pytest.fixture
def untested_claims(pytestconfig: pytest.Config) -> list[str]:
    """Ids of claims in the file that no collected test judges."""
    session = pytestconfig.stash[session_key]
    return [claim.id for claim in session.claims if claim.id not in session.tested]


def pytest_report_teststatus(
    report: pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Gives inconclusive and practically equal claims outcomes of their own."""
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name == OUTCOME and value in _STATUSES:
                return _STATUSES[value]
    return None


class _Reported:
    """Collects the claims whose tests ran here or, under xdist, in any worker."""

    def __init__(self) -> None:
        self.ids: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ids.update((str(value), None) for name, value in report.user_properties if name == _CLAIM)
        if report.when not in ("setup", "call", "teardown"):  # xdist's, of a worker that crashed
            self.ids[_claim_in(report.nodeid)] = None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes results, and records them if asked to; under xdist the controller does."""
    config = session.config
    reported = config.stash[_reported].ids
    if hasattr(config, "workerinput") or not reported:
        return
    try:
        if option(config, "record"):
            config.stash[session_key].record(reported)
        # A warning of a plotting library, made an error for the tests, should not cost a session its results.
        with warnings.catch_warnings(action="default"):
            write_results(_reported_findings(config), config.stash[session_key].conditions, results_folder(config))
    except SUITE_ERRORS as error:
        # Raised, it would keep the terminal's summary from being shown.
        config.stash[_unwritten] = str(error)
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the claims that were judged, and where to read more."""
    if not (findings := _reported_findings(config)):
        return
    terminalreporter.section("claims")
    console = _console(config)
    for warning in config.stash[session_key].suite.warnings:
        console.out(f"warning: {warning}", highlight=False)
    print_claims(findings, config.stash[session_key].conditions, console)
    if unwritten := config.stash.get(_unwritten, ""):
        console.out(f"ERROR: {unwritten}", style="bold red", highlight=False)
        return
    folder = results_folder(config)
    here = config.invocation_params.dir
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    title = config.stash[session_key].conditions.title
    console.out(f"{title}; tables, plots and report.html are in {shown}/", highlight=False)
    if option(config, "record") and any(found.judgement for found in findings.values()):
        console.print(f"recorded in {config.getini(CLAIMS_FILE)}")


def _reported_findings(config: pytest.Config) -> dict[str, Finding]:
    """Findings of the claims whose tests ran, in the order of the file."""
    ids = config.stash[_reported].ids
    return {claim: found for claim, found in config.stash[session_key].findings.items() if claim in ids} if ids else {}
