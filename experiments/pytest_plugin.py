"""The pytest plugin: claims become tests, their runs are made before the first, verdicts become outcomes."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from rich.console import Console

from experiments.claims import Claim
from experiments.judging import Finding
from experiments.numerics import THREADS_PER_RUN
from experiments.outcomes import Outcome, beside_record, outcome, recorded_verdict
from experiments.report import write_results
from experiments.report.terminal import print_claims
from experiments.report.text import explanation
from experiments.session import SUITE_ERRORS, ClaimSession
from experiments.suite import SuiteOptions

EXPECTED_RESULTS = "expected_results.json"

_CLAIM = "claim"
_OUTCOME = "claim outcome"

_session = pytest.StashKey[ClaimSession]()
_reported = pytest.StashKey["_Reported"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the options, in a group of their own."""
    add = parser.getgroup("claims", "claims of the report (-m reproduce)").addoption
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
        metavar="FILE",
        help="for the profiles images and food11: safetensors file of ImageNet's ResNet18, in place of torchvision's "
        "download; layers that it lacks are initialised",
    )
    add(
        "--results-dir",
        default="results",
        metavar="FOLDER",
        help="tables, plots and report go here (default: results)",
    )
    add("--store-dir", default=".runs", metavar="FOLDER", help="finished runs are kept here (default: .runs)")
    add(
        "--jobs",
        type=_jobs,
        metavar="N",
        help=f"runs to make side by side (default: cores / {THREADS_PER_RUN} thread a run)",
    )
    add(
        "--device",
        default="cpu",
        metavar="NAME",
        help="torch's name of the device that trains (default: cpu)",
    )
    add("--retry-failed", action="store_true", help="make runs again that failed before")
    add("--strict-claims", action="store_true", help="fail on inconclusive claims, too")
    add("--record", action="store_true", help=f"write verdicts and measurements into {EXPECTED_RESULTS}")


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise pytest.UsageError(f"--seeds {text}: must be a number of seeds, or a list such as 0,1,4")
    seeds = tuple(range(int(text))) if len(parts) == 1 else tuple(map(int, parts))
    if not seeds or len(set(seeds)) < len(seeds):
        raise pytest.UsageError(f"--seeds {text}: must be at least one seed, each once")
    return seeds


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise pytest.UsageError(f"--jobs {text}: must be a whole number, at least 1")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker that gives a test its claims, and takes in the options."""
    config.addinivalue_line("markers", "claims(kind): run the test for each claim of this kind")
    config.stash[_reported] = _Reported()
    config.pluginmanager.register(config.stash[_reported], "reported-claims")
    option = config.option

    def path(text: str | None) -> Path | None:
        return None if text is None else config.invocation_params.dir / text

    config.stash[_session] = ClaimSession(
        config.rootpath / EXPECTED_RESULTS,
        SuiteOptions(
            profile=option.profile,
            store=config.rootpath / option.store_dir,
            seeds=option.seeds,
            device=option.device,
            data_root=path(option.data_root),
            skip_bad_images=option.skip_bad_images,
            pretrained_weights=path(option.pretrained_weights),
        ),
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves the unit tests alone where only claims are asked for: they import torch, which takes seconds."""
    only_claims = config.option.markexpr.strip() == "reproduce"
    return True if only_claims and collection_path == config.rootpath / "tests" / "unit" else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes one test of each claim of the marker's kind."""
    marker = metafunc.definition.get_closest_marker("claims")
    if marker is None:
        return
    session = metafunc.config.stash[_session]
    try:
        claims = [claim for claim in session.claims if claim.kind == marker.args[0]]
    except SUITE_ERRORS as error:
        raise pytest.UsageError(str(error)) from error
    session.tested.update(claim.id for claim in claims)
    metafunc.parametrize("claim", claims, ids=[claim.id for claim in claims])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Writes on each test which claim it judges, for its reports."""
    for item in items:
        if (claim := _claim_of(item)) is not None:
            item.user_properties.append((_CLAIM, claim.id))


def _claim_of(item: pytest.Item) -> Claim | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("claim") if callspec is not None else None


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Makes what runs the selected claims need before the first test; the tests then only read and judge."""
    claims = [claim for item in session.items if (claim := _claim_of(item)) is not None]
    option = session.config.option
    if claims and not option.collectonly:
        under_xdist = hasattr(session.config, "workerinput")
        try:
            session.config.stash[_session].build(
                claims,
                1 if under_xdist else option.jobs,
                _console(session.config),
                retry_failed=option.retry_failed,
            )
        except SUITE_ERRORS as error:
            raise pytest.UsageError(str(error)) from error
    return (yield)


def _console(config: pytest.Config) -> Console:
    """A console on the terminal that pytest writes to, whatever is captured."""
    writer = config.get_terminal_writer()
    width = writer.fullwidth if writer.hasmarkup else 120
    return Console(file=writer._file, force_terminal=writer.hasmarkup, width=width)


@pytest.fixture(scope="session")
def findings(pytestconfig: pytest.Config) -> dict[str, Finding]:
    """What was found of each claim, by id."""
    return dict(pytestconfig.stash[_session].findings)


@pytest.fixture
def finding(claim: Claim, findings: dict[str, Finding]) -> Finding:
    """What was found of the test's claim; an error where its runs could not be made."""
    found = findings[claim.id]
    if found.verdict is None:
        pytest.fail(f"{claim.id}: {found.reason}", pytrace=False)
    return found


@pytest.fixture
def settle(request: pytest.FixtureRequest) -> Callable[[Finding], None]:
    """Ends the test with the outcome that the finding has beside what is recorded."""
    config = request.config

    def settle_finding(found: Finding) -> None:
        profile = config.option.profile
        recorded = found.verdict if config.option.record else recorded_verdict(found, profile)
        result = outcome(found, recorded, strict=config.option.strict_claims)
        request.node.user_properties.append((_OUTCOME, str(result)))
        reason = f"{explanation(found)}; {beside_record(recorded, profile)}"
        match result:
            case Outcome.FAILED:
                pytest.fail(reason, pytrace=False)
            case Outcome.XFAILED:
                pytest.xfail(reason)
            case Outcome.SKIPPED:
                pytest.skip(f"not applicable: {found.reason}")

    return settle_finding


@pytest.fixture
def untested_claims(pytestconfig: pytest.Config) -> list[str]:
    """Ids of claims in the file that no collected test judges."""
    session = pytestconfig.stash[_session]
    return [claim.id for claim in session.claims if claim.id not in session.tested]


def pytest_report_teststatus(
    report: pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Gives inconclusive claims an outcome of their own."""
    if report.when == "call" and (_OUTCOME, str(Outcome.INCONCLUSIVE)) in report.user_properties and report.passed:
        return "inconclusive", "I", ("INCONCLUSIVE", {"yellow": True})
    return None


class _Reported:
    """Collects the claims whose tests ran here or, under xdist, in any worker."""

    def __init__(self) -> None:
        self.ids: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ids.update((str(value), None) for name, value in report.user_properties if name == _CLAIM)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes results, and records them if asked to; under xdist the controller does."""
    config = session.config
    if hasattr(config, "workerinput") or not (findings := _reported_findings(config)):
        return
    try:
        folder = config.invocation_params.dir / config.option.results_dir
        write_results(findings, config.stash[_session].conditions, folder)
        if config.option.record:
            config.stash[_session].record(findings.values())
    except SUITE_ERRORS as error:
        raise pytest.UsageError(str(error)) from error


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the claims that were judged, and where to read more."""
    if not (findings := _reported_findings(config)):
        return
    terminalreporter.section("claims")
    console = _console(config)
    for warning in config.stash[_session].suite.warnings:
        console.print(f"warning: {warning}", markup=False)
    print_claims(findings, config.option.profile, console)
    title = config.stash[_session].conditions.title
    console.print(f"{title}; tables, plots and report.html are in {config.option.results_dir}/", markup=False)
    if config.option.record:
        console.print(f"recorded in {EXPECTED_RESULTS}")


def _reported_findings(config: pytest.Config) -> dict[str, Finding]:
    """Findings of the claims whose tests ran, in the order of the file."""
    ids = config.stash[_reported].ids
    return {claim: found for claim, found in config.stash[_session].findings.items() if claim in ids} if ids else {}
