"""The claims of one pytest session: which are selected, their runs, and what was found."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import get_args

from rich.console import Console

from experiments.building import WorkersError, build_missing
from experiments.claims import Claim, ClaimsError, ExpectedResults, applies
from experiments.claims_file import check_names, load_claims, record, save_claims, with_recorded
from experiments.cluster_resources import Cluster
from experiments.datasets.dataset import DatasetError
from experiments.forecast import Forecast, forecast
from experiments.gpus import GpuError
from experiments.judging import Finding, judge_claims, wanted
from experiments.numerics import numerics_environment, numerics_text
from experiments.profiles import PROFILES, DataName, ProfileError
from experiments.report.conditions import Conditions
from experiments.report.files import ResultsError
from experiments.slots import default_jobs
from experiments.store import StoreError
from experiments.suite import Suite, SuiteOptions

SUITE_ERRORS = (ClaimsError, DatasetError, GpuError, ProfileError, ResultsError, StoreError, WorkersError)
"""What is wrong with a user's files or options; the message tells it whole, and no traceback is needed."""


class ClaimSession:
    """Claims, suite and findings, each made when it is first asked for.

    Attributes:
        path: The file of claims.
        options: What the user chose.
        tested: Ids of the claims that a test was made for.
    """

    def __init__(self, path: Path, options: SuiteOptions) -> None:
        self.path = path
        self.options = options
        self.tested: set[str] = set()
        self._made: Mapping[str, Sequence[int]] = {}

    @cached_property
    def _expected(self) -> ExpectedResults:
        return load_claims(self.path)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All claims of the file."""
        return self._expected.claims

    @cached_property
    def suite(self) -> Suite:
        """Profile, recipes, data and store; every model of a claim is known to have a recipe."""
        suite = Suite(self.options)
        try:
            check_names(self._expected, suite.catalog, get_args(DataName), PROFILES)
        except ClaimsError as error:
            raise ClaimsError(f"{self.path}: {error}") from None
        return suite

    @cached_property
    def findings(self) -> Mapping[str, Finding]:
        """Every claim of the file, judged on what the store has."""
        return judge_claims(self.claims, self.suite)

    @property
    def conditions(self) -> Conditions:
        """What the claims are judged under."""
        numerics = numerics_text(numerics_environment(self.options.device))
        return Conditions(self.suite.profile.name, self.suite.profile.data, self.suite.seeds, numerics)

    def build(
        self,
        claims: Iterable[Claim],
        jobs: int | None,
        console: Console,
        *,
        retry_failed: bool,
        cluster: Cluster | None = None,
    ) -> None:
        """Makes what runs the claims need and the store lacks; asked for the same again, it does nothing.

        Args:
            claims: Of which only those that apply to the profile's data need runs.
            jobs: Runs to make side by side on this machine; None for as many as it has cores for.
            console: Shows how far it is.
            retry_failed: Make runs again that failed before.
            cluster: Where to make the runs in place of this machine.
        """
        needed = self._needed(claims)
        if needed == self._made:
            return
        if retry_failed:
            for key in self.suite.plan(needed).runs:
                self.suite.store.forget_failure(key)
        if cluster is None:
            build_missing(self.suite, needed, jobs or self._default_jobs(), console)
        else:
            # Ray is an extra, and takes a second or two to import.
            from experiments.cluster import build_on_cluster

            build_on_cluster(self.suite, needed, cluster, console)
        self._made = needed

    def forecast(self, claims: Iterable[Claim], jobs: int | None, *, retry_failed: bool) -> Forecast:
        """What `build` would make and how long it would take."""
        return forecast(self.suite, self._needed(claims), jobs or self._default_jobs(), retry_failed=retry_failed)

    def _default_jobs(self) -> int:
        return default_jobs(self.options.device, self.options.runs_per_gpu)

    def _needed(self, claims: Iterable[Claim]) -> Mapping[str, Sequence[int]]:
        """The seeds of each model that those of the claims need that apply to the profile's data."""
        return wanted([claim for claim in claims if applies(claim, self.suite.profile.data)], self.suite.seeds)

    def record(self, ids: Collection[str]) -> None:
        """Writes the verdicts and estimates of those of the claims that were judged into the file.

        From then on findings have them, too.

        Raises:
            ClaimsError: The file cannot be written.
        """
        judgements = {id_: found.judgement for id_, found in self.findings.items() if id_ in ids}
        numerics = self.conditions.numerics
        records = {id_: record(judgement, numerics) for id_, judgement in judgements.items() if judgement is not None}
        # Read again: another session may have recorded another profile meanwhile.
        recorded = with_recorded(load_claims(self.path), self.suite.profile.name, records)
        try:
            save_claims(recorded, self.path)
        except OSError as error:
            raise ClaimsError(f"{self.path}: cannot be written ({error.strerror})") from error
        claims = {claim.id: claim for claim in recorded.claims}
        self.findings = {
            id_: replace(found, claim=claims.get(id_, found.claim)) for id_, found in self.findings.items()
        }
