"""A forecast in the terminal: the models with their seeds, the order of the work, and what it takes in all."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from pytest_claims.suite.forecast import Forecast
from pytest_claims.suite.more_seeds import OpenClaims
from pytest_claims.suite.open_runs import RunState
from pytest_claims.suite.planning import Plan, PlannedRun
from pytest_claims.suite.schedule import Slot

_STYLES = {
    RunState.DONE: "green",
    RunState.WAITING: "yellow",
    RunState.FAILED: "bold red",
    RunState.BLOCKED: "magenta",
}


def print_forecast(forecast: Forecast, console: Console) -> None:
    """Prints it as wide as the console and, where that is no terminal, as plain text."""
    if not forecast.plan.runs:
        _say(console, "no claim that needs runs is selected")
        return
    _say(console, "Models, each below the one that it is made from, and the seeds of their runs", "bold")
    console.print(_models(forecast))
    if forecast.slots:
        _say(console, f"\nRuns in the order in which they start, with --jobs {forecast.jobs}", "bold")
        console.print(_order(forecast))
    console.print()
    for failure in forecast.failures.values():
        _say(console, f"failed: {failure.message} (--retry-failed makes it again)", "dim")
    for line in _totals(forecast):
        _say(console, line, "bold")


def print_open_claims(found: OpenClaims | None, first: int, console: Console) -> None:
    """Prints which claims more seeds would decide, and which of them in the time that is left.

    Args:
        found: The claims; None before the first seeds are there.
        first: How many seeds all claims have.
        console: Where to print.
    """
    if found is None:
        _say(console, f"after these {first} seeds, more are added for claims that they do not decide", "dim")
        return
    left = f"{max(0.0, found.seconds_left) / 60:.0f} min are left"
    if not found.claims:
        _say(console, "no claim that more seeds within reason would decide", "bold")
        return
    _say(console, f"\nClaims that more seeds would decide, if means and deviations stayed; {left}", "bold")
    table = _table()
    for heading in ("claim", "seeds that decide", "takes", "in time"):
        table.add_column(heading, overflow="fold", header_style="underline")
    in_time = found.in_time()
    for each in found.claims:
        seconds = each.seconds_to_decide / found.jobs
        table.add_row(each.claim.id, str(each.deciding), duration(seconds), "yes" if in_time[each.claim.id] else "no")
    console.print(table)


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(line, style=style, highlight=False, markup=False)


def _models(forecast: Forecast) -> Table:
    """A row for each model below the one that it is made from; a state that no run has gets no column."""
    table = _table()
    states = [state for state in RunState if state in forecast.states.values()]
    table.add_column("model", overflow="fold", header_style="underline")
    table.add_column("a run", justify="right", no_wrap=True, header_style="underline")
    for state in states:
        table.add_column(state, style=_STYLES[state], header_style="underline")
    for name, runs in _tree(forecast.plan):
        seeds = [seeds_text(run for run in runs if forecast.states[run.key] is state) for state in states]
        table.add_row(name, duration(runs[0].effort), *seeds)
    return table


def _order(forecast: Forecast) -> Table:
    """The runs to make as they would be started; a row for all of a model that follow one another."""
    table = _table()
    table.add_column("start", justify="right", no_wrap=True, header_style="underline")
    table.add_column("model", overflow="fold", header_style="underline")
    table.add_column("seeds", header_style="underline")
    for name, group in groupby(forecast.slots, key=lambda slot: slot.planned.run.name):
        slots: list[Slot] = list(group)
        table.add_row(_clock(slots[0].start), name, seeds_text(slot.planned for slot in slots))
    return table


def _table() -> Table:
    return Table(box=None, padding=(0, 1))


def _totals(forecast: Forecast) -> Iterator[str]:
    counts = Counter(forecast.states.values())
    yield f"{len(forecast.states)} runs: " + ", ".join(f"{counts[s]} {s}" for s in RunState if counts[s])
    if not forecast.slots:
        return
    path = forecast.longest_path
    chain = " > ".join(dict.fromkeys(planned.run.name for planned in path))
    yield f"CPU time: about {duration(forecast.cpu_seconds)}"
    yield f"wall time with --jobs {forecast.jobs}: about {duration(forecast.wall_seconds)}"
    yield f"longest path: about {duration(sum(planned.effort for planned in path))}, {chain}"
    if forecast.evidence:
        yield f"estimated from {forecast.evidence} earlier runs"
    else:
        yield "estimated by rough constants: the store has no run of this kind of machine"


def _tree(plan: Plan) -> Iterator[tuple[str, Sequence[PlannedRun]]]:
    """The models' names, indented below their first parent's, with their runs; what takes longest comes first."""
    by_name: dict[str, list[PlannedRun]] = {}
    for planned in plan.runs.values():
        by_name.setdefault(planned.run.name, []).append(planned)
    children: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for name, runs in by_name.items():
        first, *others[name] = [plan.runs[key].run.name for key in runs[0].parents.values()] or [""]
        children.setdefault(first, []).append(name)

    def below(parent: str, depth: int) -> Iterator[tuple[str, Sequence[PlannedRun]]]:
        for name in sorted(children.get(parent, ()), key=lambda name: -by_name[name][0].remaining):
            also = f" (also from {', '.join(others[name])})" if others[name] else ""
            yield f"{'  ' * depth}{name}{also}", by_name[name]
            yield from below(name, depth + 1)

    return below("", 0)


def seeds_text(runs: Iterable[PlannedRun]) -> str:
    """The seeds of some runs of a model, as in "0-2, 5", or "shared"."""
    runs = list(runs)
    if runs and runs[0].run.recipe.shared:
        return "shared"
    seeds = sorted(planned.run.seed for planned in runs)
    spans = [list(span) for _, span in groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0])]
    ends = [(span[0][1], span[-1][1]) for span in spans]
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ends)


def duration(seconds: float) -> str:
    """A rough time for people: tenths of seconds only where they count."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds from now."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
