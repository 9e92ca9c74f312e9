"""The command line: `python -m compression pack|unpack|inspect|bench`.

    python -m compression pack model.pth --bits 4 -o model.packed.safetensors
    python -m compression inspect model.packed.safetensors --original model.pth

Only the options are here; torch is imported after they are read, so that `--help` comes at once.
"""

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from compression.cli.defaults import BITS, SHARE
from compression.cli.printable import printable

METHODS: Final = ("affine", "codebook", "min-max-8", "float16", "bfloat16", "none")
RANGES: Final = ("min-max", "percentile", "least-squares")

_METHODS_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "bits": ("affine", "codebook"),
    "ranges": ("affine",),
    "asymmetric": ("affine",),
    "per_tensor": ("affine",),
    "no_entropy": ("affine", "codebook", "min-max-8"),
}

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)} (--help tells more)\n")


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status.

    0 is success, 1 a file that is wrong or can't be read, 2 wrong usage, 130 an interrupt.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if conflict := _conflict(options):
        parser.error(conflict)
    from compression.cli.actions import run

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = run(options)
        print(end="", flush=True)
    except OSError as error:
        # Python would complain once more when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Whoever reads from a broken pipe has seen enough, such as `head`.
        if not isinstance(error, BrokenPipeError):
            written = f"; {options.output} is written" if "output" in options else ""
            print(f"compression {options.command}: standard output: {error}{printable(written)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _conflict(options: argparse.Namespace) -> str | None:
    """Tell what is wrong with options of which each alone is right; None if nothing is."""
    if options.command in ("pack", "unpack") and _is_same_file(options.file, options.output):
        return f"argument -o/--output: {options.output} is FILE itself, which would be lost"
    if options.command != "pack":
        return None
    for name, methods in _METHODS_WITH.items():
        if getattr(options, name) and options.method not in methods:
            return f"argument --{name.replace('_', '-')}: is for --method {' or '.join(methods)}, not {options.method}"
    if options.share and options.ranges != "percentile":
        return "argument --share: is for --ranges percentile"
    if options.method == "affine" and options.bits == 1:
        return "argument --bits: --method affine takes 2 to 8; codebook takes 1, too"
    return None


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        # One of them is not there.
        return False


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="python -m compression",
        description="Weights in fewer bytes. FILE is a state dict: safetensors, a packed file, or torch's .pth or "
        ".bin, read without running any code in it.",
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for add in (_add_pack, _add_unpack, _add_inspect, _add_bench):
        add(commands)
    return parser


def _add_pack(commands: _Commands) -> None:
    command = commands.add_parser("pack", help="writes a state dict in fewer bits")
    _add_file(command)
    _add_output(command)
    command.add_argument(
        "--method",
        choices=METHODS,
        default="affine",
        help="affine: a scale for evenly spaced codes; codebook: k-means; min-max-8: 8 bits between minimum and "
        "maximum, biases and norms, too; none: as they are (default: affine)",
    )
    command.add_argument("--bits", type=_bits, help=f"2 to 8 for affine, 1 to 8 for codebook (default: {BITS})")
    command.add_argument("--ranges", choices=RANGES, help="affine: how ranges are chosen (default: min-max)")
    command.add_argument("--share", type=_share, help=f"percentile: percent of values inside (default: {SHARE})")
    command.add_argument("--asymmetric", action="store_true", help="affine: with a zero point")
    command.add_argument("--per-tensor", action="store_true", help="affine: one scale a tensor, not one a channel")
    command.add_argument("--no-entropy", action="store_true", help="packed bits alone")


def _add_unpack(commands: _Commands) -> None:
    command = commands.add_parser("unpack", help="writes a packed file as plain safetensors of floats")
    _add_file(command)
    _add_output(command)


def _add_inspect(commands: _Commands) -> None:
    command = commands.add_parser("inspect", help="shows each tensor: shape, bits, bytes, share")
    _add_file(command)
    command.add_argument("--original", type=Path, metavar="FILE", help="the file it was made of: shows the error, too")


def _add_bench(commands: _Commands) -> None:
    command = commands.add_parser("bench", help="compares methods and bits: bytes and error; writes nothing")
    _add_file(command)
    command.add_argument("--bits", type=_several_bits, default="8,4,2", help="separated by commas (default: 8,4,2)")


def _add_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument(
        "--limit",
        type=_gibibytes,
        default=4 << 30,
        metavar="GIB",
        help="refuse files whose tensors take more (default: 4)",
    )


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--output", type=_output, required=True, metavar="OUT", help="file to write or replace")


def _output(text: str) -> Path:
    if text == "-":
        raise argparse.ArgumentTypeError("standard output is not supported; ./- is a file called so")
    if text.endswith((os.sep, f"{os.sep}.")):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; a file is needed")
    return Path(text)


def _bits(text: str) -> int:
    if text not in {str(bits) for bits in range(1, 9)}:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 8")
    return int(text)


def _several_bits(text: str) -> list[int]:
    return [_bits(each) for each in text.split(",")]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage above 0 and at most 100")
    return share


def _gibibytes(text: str) -> int:
    try:
        size = int(float(text) * (1 << 30))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GiB above 0")
    return size
