"""The claims of one pytest session: which are selected, their runs, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from pytest_claims.report.text import added_text
from pytest_claims.store import StoreError
from pytest_claims.suite.forecast import Forecast, forecast
from pytest_claims.suite.judging import Finding, judge_claims, number
from pytest_claims.suite.more_seeds import OpenClaims, Undecided, next_batch, seconds_spent, undecided
from pytest_claims.suite.open_runs import OpenRuns
from pytest_claims.suite.seed_counts import first, fixed, reached, wanted
from pytest_claims.suite.suite import Suite, SuiteOptions
from pytest_claims.verdicts.looks import Looks
from pytest_claims.verdicts.verdict import Verdict
from pytest_claims.workers.building import build_missing
from pytest_claims.workers.cluster.resources import Cluster
from pytest_claims.workers.driver import Wanted, WorkersError
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
        return Conditions(
            profile.name,
            profile.data,
            self.suite.seeds,
            numerics,
            self._outline,
            self.suite.coverage,
            adds_seeds=self.suite.looks is not None,
        )

    @property
    def _outline(self) -> Outline:
        catalog = self.suite.catalog
        return Outline(
            title=self._expected.title,
            sections=self._expected.sections,
            sources=self._expected.sources,
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
        claims = [claim for claim in claims if claim.applies(self.suite.profile.data)]
        needed = self._needed(claims, models)
        if needed == self._made:
            return
        if retry_failed:
            self._forget_failures(claims, needed)
        make = self._maker(jobs, console, cluster)
        make(needed)
        self._made = needed
        if self.suite.looks:
            self._add_seeds(claims, self.suite.looks, make, jobs or self._default_jobs(), console)

    def _forget_failures(self, claims: Sequence[Claim], needed: Mapping[str, Sequence[int]]) -> None:
        """Lets runs be made that failed before: what is needed, and what each claim's next look would take."""
        plans = [self.suite.plan(needed)]
        if looks := self.suite.looks:
            counts = {id_: looks.after(len(seeds)).seeds for id_, seeds in reached(claims, self.suite).items()}
            plans.append(self.suite.plan(wanted(claims, first(counts))))
        for key in {key for plan in plans for key in plan.runs}:
            self.suite.store.forget_failure(key)

    def _maker(self, jobs: int | None, console: Console, cluster: Cluster | None) -> Callable[[Wanted], None]:
        """What makes the runs that the store lacks: here, or on a cluster."""
        if cluster is None:
            return lambda needed: build_missing(self.suite, needed, jobs or self._default_jobs(), console)
        # Ray is an extra, and takes a second or two to import.
        from pytest_claims.workers.cluster.cluster import build_on_cluster

        return lambda needed: build_on_cluster(self.suite, needed, cluster, console)

    def _add_seeds(
        self,
        claims: Sequence[Claim],
        looks: Looks,
        make: Callable[[Wanted], None],
        jobs: int,
        console: Console,
    ) -> None:
        """Makes runs of more seeds for claims that are not decided; see `suite.more_seeds`.

        A look is gone for once: a run that fails keeps its claims from reaching it.
        """
        gone_for: set[tuple[str, int]] = set()
        while True:
            self.suite.forget_estimates()
            found, left = self._open(claims, looks, jobs)
            open_claims = [each for each in found if (each.claim.id, each.next_look) not in gone_for]
            batch = next_batch(open_claims, self.suite, jobs, left)
            if open_claims:
                console.print(added_text(open_claims, batch, left), highlight=False, markup=False)
            if not batch:
                return
            gone_for.update(batch.items())
            make(wanted([claim for claim in claims if claim.id in batch], first(batch)))

    def _open(self, claims: Sequence[Claim], looks: Looks, jobs: int) -> tuple[list[Undecided], float]:
        """The claims that more seeds would decide, and the seconds that are left for it."""
        findings = judge_claims(self.claims, self.suite)
        open_claims = undecided({claim.id: findings[claim.id] for claim in claims}, self.suite, looks)
        return open_claims, 60 * self.suite.minutes - seconds_spent(claims, self.suite) / jobs

    def open_claims(self, claims: Iterable[Claim], jobs: int | None) -> OpenClaims | None:
        """Which claims more seeds would decide; None where none are added, or the first look's runs are missing."""
        claims = [claim for claim in claims if claim.applies(self.suite.profile.data)]
        looks = self.suite.looks
        if looks is None or OpenRuns(self.suite.store, self.suite.plan(self._needed(claims, ()))).waiting():
            return None
        return OpenClaims(*self._open(claims, looks, jobs or self._default_jobs()), jobs or self._default_jobs())

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
        claims = [claim for claim in claims if claim.applies(self.suite.profile.data)]
        return {**wanted(claims, fixed(claims, self.suite)), **dict.fromkeys(models, self.suite.seeds)}

    @cached_property
    def family_size(self) -> int:
        """The claims of the file over which refutations are corrected."""
        return sum(
            claim.applies(self.suite.profile.data) and not claim.exact and not claim.is_control for claim in self.claims
        )

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
        judged = {id_: found for id_, found in self.findings.items() if id_ in ids}
        judgements = {id_: found.judgement for id_, found in judged.items() if found.verdict is not Verdict.NOT_JUDGED}
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
