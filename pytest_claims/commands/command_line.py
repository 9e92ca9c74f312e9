"""The command line: `python -m pytest_claims new FOLDER`, `schema`, and `store list|verify|gc|export|import`.

Only the options are here; what they ask for is imported after they are read, so that `--help` comes at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

_TRUST = (
    "A run's hashes prove that it is whole and unchanged; they do not prove that training made it. An imported run is "
    "as trustworthy as who made the archive."
)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help tells more)\n")


def main(arguments: Sequence[str]) -> int:
    """Runs a command; returns its exit status: 0 fine, 1 something is wrong with store or archive, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        status = _PROGRAMS[options.program](options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has seen enough, such as `head`. Python would complain once more when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="python -m pytest_claims", description="What can be done beside running pytest."
    )
    programs = parser.add_subparsers(required=True, dest="program", metavar="PROGRAM")
    new = programs.add_parser("new", help="writes a small project with claims, to be changed into one's own")
    new.add_argument("folder", type=Path, metavar="FOLDER", help="new, or empty")
    programs.add_parser("schema", help="prints the JSON Schema of the file of claims")
    store = programs.add_parser("store", help="lists, verifies, empties and moves finished runs", description=_TRUST)
    commands = store.add_subparsers(required=True, dest="command", metavar="COMMAND")
    where = _Parser(add_help=False)
    where.add_argument(
        "--store-dir",
        type=Path,
        default=Path(".runs"),
        metavar="FOLDER",
        help="the run store (default: .runs in the current folder)",
    )
    for add in (_add_list, _add_verify, _add_gc, _add_export, _add_import):
        add(commands, where)
    return parser


def _new(options: argparse.Namespace) -> int:
    from pytest_claims.commands.new_project import NewProjectError, write_project

    try:
        names = write_project(options.folder)
    except NewProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.folder} has {', '.join(names)}\n\n    cd {options.folder}\n    pytest")
    return 0


def _schema(options: argparse.Namespace) -> int:
    from pytest_claims.claims.expected_results import schema_text

    print(schema_text(), end="")
    return 0


def _store(options: argparse.Namespace) -> int:
    from pytest_claims.commands import store_commands

    return store_commands.run(options)


_PROGRAMS: Mapping[str, Callable[[argparse.Namespace], int]] = {"new": _new, "schema": _schema, "store": _store}

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_list(commands: _Commands, where: argparse.ArgumentParser) -> None:
    text = "lists finished and failed runs"
    command = commands.add_parser("list", parents=[where], help=text, description=f"{text}, without hashing weights.")
    command.add_argument("--json", action="store_true", help="for programs: full keys, one JSON object")


def _add_verify(commands: _Commands, where: argparse.ArgumentParser) -> None:
    commands.add_parser(
        "verify",
        parents=[where],
        help="hashes every file of every run anew",
        description="Hashes every file of every run anew. A damaged run is named and moved to set-aside/, and is made "
        "again when it is next needed; the exit status is then 1.",
    )


def _add_gc(commands: _Commands, where: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "gc",
        parents=[where],
        help="removes what nothing can need",
        description="Shows what nothing can need, and removes it with --yes: what killed processes left half written, "
        "runs that were set aside as damaged, checkpoints of finished runs. Nothing that a living process holds is "
        "touched. Lock files stay: they are empty, and to remove one that another process is about to take would "
        "give two processes the same lock.",
    )
    command.add_argument("--yes", action="store_true", help="remove it; without this option it is only shown")
    command.add_argument(
        "--failed", action="store_true", help="also all tombstones, so that failed runs are tried again"
    )
    command.add_argument(
        "--unreachable",
        action="store_true",
        help="also the runs and checkpoints that no profile of --keep-profile would read with today's code, data and "
        "machine, and the options below; the profiles' data are prepared if they are not yet",
    )
    command.add_argument("--keep-profile", nargs="+", default=[], metavar="NAME", help="profiles whose runs stay")
    command.add_argument("--seeds", type=_seeds, metavar="N|LIST", help="their seeds, as pytest takes them")
    command.add_argument("--device", default="cpu", metavar="NAME", help="as pytest takes it (default: cpu)")
    command.add_argument("--data-root", type=Path, metavar="FOLDER", help="as pytest takes it")
    command.add_argument("--skip-bad-images", action="store_true", help="as pytest takes it")
    command.add_argument("--pretrained-weights", type=Path, metavar="FILE", help="as pytest takes it")


def _add_export(commands: _Commands, where: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "export",
        parents=[where],
        help="writes runs into an archive",
        description="Writes whole, verified runs into an archive, with all that they are made from. The same runs give "
        "the same bytes.",
    )
    command.add_argument(
        "archive",
        type=Path,
        metavar="ARCHIVE",
        help="ends in .tar, or in .tar.gz, which takes longer and is hardly smaller",
    )
    command.add_argument("runs", nargs="*", metavar="RUN", help="names, or beginnings of keys (default: all runs)")
    command.add_argument("--profile", nargs="+", default=[], metavar="NAME", help="only runs of these profiles")
    command.add_argument("--without-parents", action="store_true", help="leave out what the runs are made from")


def _add_import(commands: _Commands, where: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "import",
        parents=[where],
        help="takes runs out of an archive",
        description="Takes in the runs of an archive that `export` wrote, all of them or, if anything is wrong with "
        f"it, none. Runs that are there are left as they are. {_TRUST}",
    )
    command.add_argument("archive", type=Path, metavar="ARCHIVE")


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts) or parts == ["0"]:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a number of seeds, or a list such as 0,1,4 of each seed once"
        )
    return tuple(range(int(text))) if len(parts) == 1 else tuple(map(int, parts))
