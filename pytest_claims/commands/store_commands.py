"""What the commands of `pytest_claims.commands.command_line` do and print."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pytest_claims.datasets.dataset import DatasetError
from pytest_claims.recipes.profile import ProfileError
from pytest_claims.recipes.project import ProjectError, place_in
from pytest_claims.store.archive import ArchiveError
from pytest_claims.store.archive_export import ExportError, export_runs, select, with_parents
from pytest_claims.store.archive_import import import_runs
from pytest_claims.store.errors import StoreError
from pytest_claims.store.garbage import (
    Garbage,
    leftovers,
    size,
    stale_checkpoints,
    tombstones,
    unreachable,
)
from pytest_claims.store.listing import Listing, list_store
from pytest_claims.store.run_store import RUNS, Store
from pytest_claims.store.stored_run import RunSummary
from pytest_claims.store.verification import verify_store
from pytest_claims.suite.reachable import reachable_keys
from pytest_claims.suite.suite import SuiteOptions

_WIDTH_OF_FILES = 160
"""Columns of a table that goes to a file or a pipe, which has no width of its own."""


class UsageError(ValueError):
    """What is asked for cannot be; the message tells why."""


def run(options: argparse.Namespace) -> int:
    """Runs the command of parsed options, and tells in one line what is wrong; returns the exit status."""
    width = None if sys.stdout.isatty() else _WIDTH_OF_FILES
    # What a run tells of itself is shown as it is, whatever brackets an imported one may have in its name.
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    try:
        return _COMMANDS[options.command](options, console)
    except (UsageError, ExportError, ProfileError, ProjectError) as error:
        return _tell(error, 2)
    except (StoreError, ArchiveError, DatasetError) as error:
        return _tell(error, 1)


def _tell(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


def _list(options: argparse.Namespace, console: Console) -> int:
    listing = list_store(_existing_store(options.store_dir))
    if options.json:
        print(json.dumps(_as_json(listing), indent=1))
        return 0
    if listing.runs:
        console.print(_table_of_runs(listing.runs))
    for key, failure in listing.failures.items():
        _line(console, f"failed {key[:12]} {failure.message}")
    for problem in listing.damaged.values():
        _line(console, f"damaged {problem}")
    total = decimal(int(sum(run.measurements.get("bytes", 0) for run in listing.runs)))
    counts = f"{len(listing.runs)} finished runs ({total}), {len(listing.failures)} failed"
    _line(console, counts + (f", {len(listing.damaged)} damaged: see `store verify`" if listing.damaged else ""))
    return 0


def _table_of_runs(runs: tuple[RunSummary, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("profile", "name", "seed", "accuracy", "bytes", "seconds", "finished", "key"):
        table.add_column(title, no_wrap=True, justify="right" if title in _RIGHT else "left")
    for run in runs:
        told = run.provenance
        accuracy, seconds = run.measurements.get("accuracy"), told.get("seconds")
        table.add_row(
            _text(told, "profile"),
            _text(told, "name"),
            _text(told, "seed"),
            "-" if accuracy is None else f"{accuracy:.2f}",
            f"{run.measurements.get('bytes', 0):,.0f}",
            f"{seconds:.1f}" if isinstance(seconds, int | float) and 0 <= seconds < 1e8 else "-",
            _text(told, "finished").removesuffix("+00:00"),
            run.key[:12],
        )
    return table


_RIGHT = {"seed", "accuracy", "bytes", "seconds"}


def _text(provenance: Mapping[str, object], name: str) -> str:
    """Of runs that others made, too: what would steer a terminal, or cannot be encoded, is spelt out."""
    text = str(provenance.get(name, "-"))
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _as_json(listing: Listing) -> dict[str, object]:
    runs = [{**run.provenance, "key": run.key, "measurements": run.measurements} for run in listing.runs]
    failed = [
        {"key": key, "name": failure.name, "message": failure.message} for key, failure in listing.failures.items()
    ]
    return {"runs": runs, "failed": failed, "damaged": listing.damaged}


def _verify(options: argparse.Namespace, console: Console) -> int:
    root = _existing_store(options.store_dir).root
    with _progress("verifying") as progress:
        found = verify_store(root, progress)
    for problem in found.problems:
        _line(console, f"damaged {problem}")
    _line(console, f"{found.whole} runs are whole, {len(found.problems)} problems")
    for what, paths in (("set aside", found.set_aside), ("left behind by killed processes", found.left_behind)):
        if paths:
            _line(console, f"{len(paths)} {what} ({decimal(sum(map(size, paths)))}): `store gc` removes them")
    return 1 if found.problems else 0


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _gc(options: argparse.Namespace, console: Console) -> int:
    store = _existing_store(options.store_dir)
    kinds = [leftovers(store), stale_checkpoints(store)]
    if options.failed:
        kinds.append(tombstones(store))
    if options.unreachable:
        kinds.append(unreachable(store, reachable_keys(_profiles_to_keep(options))))
    elif options.keep_profile:
        raise UsageError("--keep-profile: says which runs are reachable; give --unreachable, too, to remove the others")
    garbage = list(chain.from_iterable(kinds))
    if not garbage:
        _line(console, "nothing to remove")
    elif options.yes:
        _remove(garbage, console)
    else:
        for each in garbage:
            _line(console, _described(each))
        _line(console, f"would remove {_amount(garbage)}; --yes does")
    return 0


def _remove(garbage: Sequence[Garbage], console: Console) -> None:
    removed = []
    for each in garbage:
        if why_kept := each.remove():
            _line(console, f"{_described(each)}: kept, {why_kept}")
        else:
            _line(console, _described(each))
            removed.append(each)
    _line(console, f"removed {_amount(removed)}")


def _described(garbage: Garbage) -> str:
    return f"{garbage.kind} {garbage.path} ({decimal(garbage.bytes)})"


def _amount(garbage: Sequence[Garbage]) -> str:
    return f"{len(garbage)} entries, {decimal(sum(each.bytes for each in garbage))}"


def _profiles_to_keep(options: argparse.Namespace) -> list[SuiteOptions]:
    if not options.keep_profile:
        raise UsageError("--unreachable: name with --keep-profile the profiles whose runs stay")
    place = place_in(Path.cwd())
    return [
        SuiteOptions(
            place,
            profile,
            options.store_dir,
            options.seeds,
            options.device,
            options.data_root,
            options.skip_bad_images,
            options.pretrained_weights,
        )
        for profile in options.keep_profile
    ]


def _export(options: argparse.Namespace, console: Console) -> int:
    store = _existing_store(options.store_dir)
    runs = list_store(store).runs
    chosen = select(runs, options.runs, options.profile)
    if not chosen:
        raise UsageError(f"run store {store.root}: has no such run")
    keys = {run.key for run in chosen}
    if not options.without_parents:
        keys, missing = with_parents(chosen, runs)
        for key in sorted(missing):
            _line(console, f"warning: run {key[:12]}, from which others are made, is not in the store")
    export_runs(store, keys, options.archive)
    _line(console, f"{len(keys)} runs are in {options.archive} ({decimal(size(options.archive))})")
    return 0


def _import(options: argparse.Namespace, console: Console) -> int:
    found = import_runs(Store(options.store_dir), options.archive)
    _line(console, f"{len(found.new)} runs imported, {len(found.there)} were there")
    return 0


def _existing_store(root: Path) -> Store:
    """A store that is there: to list one in a mistyped place should not make one."""
    if not (root / RUNS).is_dir():
        raise UsageError(f"--store-dir {root}: is no run store; it has no folder {RUNS}/")
    return Store(root)


def _line(console: Console, text: str) -> None:
    console.out(text, highlight=False)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], int]] = {
    "list": _list,
    "verify": _verify,
    "gc": _gc,
    "export": _export,
    "import": _import,
}
