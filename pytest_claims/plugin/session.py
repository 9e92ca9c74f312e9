"""The claims of one pytest session: which are selected, their runs, and what was found."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pytest_claims.claims.claim import Claim, ClaimsError
from pytest_claims.claims.claims_file import check_names, load_claims, record, save_claims, with_recorded
from pytest_claims.claims.expected_results import AnyClaim, ExpectedResults
from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.keys.gpus import GpuError
from pytest_claims.keys.numerics import numerics_environment, numerics_text
from pytest_claims.recipes.profile import ProfileError
from pytest_claims.recipes.project import ProjectError
from pytest_claims.report.conditions import Conditions, Outline
from pytest_claims.report.files import ResultsError
from pytest_claims.store import StoreError
from pytest_claims.suite.forecast import Forecast, forecast
from pytest_claims.suite.judging import Finding, judge_claims, number, wanted
from pytest_claims.suite.suite import Suite, SuiteOptions
from pytest_claims.workers.building import build_missing
from pytest_claims.workers.cluster.resources import Cluster
from pytest_claims.workers.driver import WorkersError
from pytest_claims.workers.slots import default_jobs

if TYPE_CHECKING:
    import pandas as pd

SUITE_ERRORS = (ClaimsError, DatasetError, GpuError, ProfileError, ProjectError, ResultsError, StoreError, WorkersError)
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
    def claims(self) -> tuple[AnyClaim, ...]:
        """All claims of the file."""
        return self._expected.claims

    @cached_property
    def suite(self) -> Suite:
        """Profile, recipes, data and store; every model of a claim is known to have a recipe."""
        suite = Suite(self.options)
        try:
            check_names(
                self._expected, suite.catalog, suite.project.measures, suite.project.data, suite.project.profiles
            )
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
        profile = self.suite.profile
        return Conditions(profile.name, profile.data, self.suite.seeds, numerics, self._outline)

    @property
    def _outline(self) -> Outline:
        catalog = self.suite.catalog
        return Outline(
            title=self._expected.title,
            sections=self._expected.sections,
            families={name: recipe.family for name, recipe in catalog.items() if recipe.family},
            intermediate=frozenset(name for name, recipe in catalog.items() if recipe.intermediate),
            curves=catalog.curves,
            plots=self.suite.project.plots,
        )

    def build(
        self,
        claims: Iterable[Claim],
        jobs: int | None,
        console: Console,
        *,
        retry_failed: bool,
        cluster: Cluster | None = None,
        models: Iterable[str] = (),
    ) -> None:
        """Makes what runs the claims need and the store lacks; asked for the same again, it does nothing.

        Args:
            claims: Of which only those that apply to the profile's data need runs.
            jobs: Runs to make side by side on this machine; None for as many as it has cores for.
            console: Shows how far it is.
            retry_failed: Make runs again that failed before.
            cluster: Where to make the runs in place of this machine.
            models: Whose runs are needed beside those of the claims.
        """
        needed = self._needed(claims, models)
        if needed == self._made:
            return
        if retry_failed:
            for key in self.suite.plan(needed).runs:
                self.suite.store.forget_failure(key)
        if cluster is None:
            build_missing(self.suite, needed, jobs or self._default_jobs(), console)
        else:
            # Ray is an extra, and takes a second or two to import.
            from pytest_claims.workers.cluster.cluster import build_on_cluster

            build_on_cluster(self.suite, needed, cluster, console)
        self._made = needed

    def forecast(
        self, claims: Iterable[Claim], jobs: int | None, *, retry_failed: bool, models: Iterable[str] = ()
    ) -> Forecast:
        """What `build` would make and how long it would take."""
        return forecast(
            self.suite, self._needed(claims, models), jobs or self._default_jobs(), retry_failed=retry_failed
        )

    def _default_jobs(self) -> int:
        return default_jobs(self.options.device, self.options.runs_per_gpu)

    def _needed(self, claims: Iterable[Claim], models: Iterable[str]) -> Mapping[str, Sequence[int]]:
        """The seeds of each model that is needed: by name, or by claims that apply to the profile's data."""
        of_claims = wanted([claim for claim in claims if claim.applies(self.suite.profile.data)], self.suite.seeds)
        return {**of_claims, **dict.fromkeys(models, self.suite.seeds)}

    @cached_property
    def family_size(self) -> int:
        """The claims of the file over which refutations are corrected."""
        return sum(claim.applies(self.suite.profile.data) and not claim.exact for claim in self.claims)

    def measurements(self, model: str, measure: str) -> pd.Series[float]:
        """Return what was measured of a model, one number a seed.

        Runs that are missing are made: under xdist, tests that name models are not known before they run.

        Raises:
            ClaimsError: A run could not be made, or has no such measure.
        """
        import pandas as pd

        wanted = {model: self.suite.seeds}
        build_missing(self.suite, wanted, self._default_jobs(), Console(stderr=True))
        keys = self.suite.plan(wanted).keys[model]
        numbers = {}
        for seed, key in zip(self.suite.seeds, keys, strict=True):
            if (run := self.suite.store.load(key)) is None:
                failure = self.suite.store.failure(key)
                raise ClaimsError(f"{model}, seed {seed}: {failure.message if failure else 'is not in the store'}")
            numbers[seed] = number(run, measure)
        return pd.Series(numbers, name=f"{model} {measure}", dtype="float64")

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
