"""What findings look like to people: text, tables, plots, terminal and page. Nothing here judges."""

from collections.abc import Mapping
from pathlib import Path

from pytest_claims.report.conditions import Conditions
from pytest_claims.suite.judging import Finding


def write_results(findings: Mapping[str, Finding], conditions: Conditions, folder: Path) -> list[Path]:
    """Writes tables, plots and the page into the results folder, which is made if needed.

    Args:
        findings: What became of each claim, by its id.
        conditions: What they were judged under.
        folder: Where the files go; those of a former session are replaced.

    Returns:
        The files written.

    Raises:
        ResultsError: The folder cannot be made or written to.
    """
    from pytest_claims.report.page import write_page
    from pytest_claims.report.plots import write_plots
    from pytest_claims.report.tables import write_tables

    tables = write_tables(findings, conditions, folder)
    plots = write_plots(findings, conditions, folder)
    return [*tables, *plots, write_page(findings, conditions, plots, folder)]
