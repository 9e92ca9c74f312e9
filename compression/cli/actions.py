"""What the command line does; the options are `options`'s."""

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from compression.atomic_file import replacing
from compression.cli.defaults import BITS, SHARE
from compression.cli.printable import printable
from compression.cli.source_file import is_torch_file, read_state
from compression.cli.state_tables import BenchRow, bench_table, inspection_table, left_out, relative_error
from compression.packing.container import is_packed
from compression.packing.state_file import (
    Method,
    affine,
    cast,
    codebook,
    min_max_bytes,
    pack_tensors,
    read_packed,
    read_with_sizes,
    write_packed,
)
from compression.packing.tensors import Packable, check_names, encode_tensors, restore, stored_size
from compression.quantization.affine import AffineSpec
from compression.quantization.ranges import RangeRule, least_squares, min_max, percentile

_CASTS: Final[Mapping[str, torch.dtype]] = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def run(options: argparse.Namespace) -> int:
    """Run a command; print an error of a file or tensor as one line on stderr.

    Returns the exit status: 0, or 1 after such an error.

    Raises:
        OSError: If what the command has to say can't be printed; what it writes is then written.
    """
    commands: dict[str, Callable[[argparse.Namespace], list[str | Table]]] = {
        "pack": _pack,
        "unpack": _unpack,
        "inspect": _inspect,
        "bench": _bench,
    }
    try:
        said = commands[options.command](options)
    except (ValueError, OSError) as error:
        print(f"compression {options.command}: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    for each in said:
        if isinstance(each, str):
            print(printable(each))
        else:
            _console().print(each)
    return 0


def method(options: argparse.Namespace) -> Method:
    """Return the method that the options of `pack` ask for.

    Raises:
        ValueError: If it can't have these options.
    """
    if options.method == "affine":
        return affine(
            AffineSpec(
                bits=options.bits or BITS,
                symmetric=not options.asymmetric,
                axis=None if options.per_tensor else 0,
                ranges=_range_rule(options),
            )
        )
    if options.method == "codebook":
        return codebook(options.bits or BITS)
    if options.method == "min-max-8":
        return min_max_bytes()
    return cast(_CASTS[options.method]) if options.method in _CASTS else (lambda tensor, _: tensor)


def _range_rule(options: argparse.Namespace) -> RangeRule:
    if options.ranges == "percentile":
        return functools.partial(percentile, share=options.share or SHARE)
    return least_squares if options.ranges == "least-squares" else min_max


def _pack(options: argparse.Namespace) -> list[str | Table]:
    state = read_state(options.file, options.limit)
    try:
        packed = pack_tensors(state, method(options))
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}; --method none keeps all tensors as they are") from error
    with _naming(options.file):
        size = write_packed(packed, options.output, not options.no_entropy)
    return [_report(options.file, options.output, size)]


def _unpack(options: argparse.Namespace) -> list[str | Table]:
    if is_torch_file(options.file):
        raise ValueError(f"{options.file}: no packed file, but one of torch.save, which `pack` reads")
    packed = read_packed(options.file, options.limit)
    with _naming(options.file):
        check_names(packed)
    state = {name: restore(tensor).contiguous() for name, tensor in packed.items()}
    payload = safetensors.torch.save(state)
    with replacing(options.output) as temporary:
        temporary.write_bytes(payload)
    return [_report(options.file, options.output, len(payload))]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before the errors of its tensors."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _report(source: Path, target: Path, size: int) -> str:
    before = source.stat().st_size
    return f"{target}: {size:,} bytes, {size / before:.3f} of {source}'s {before:,}"


def _inspect(options: argparse.Namespace) -> list[str | Table]:
    packed: Mapping[str, Packable]
    if is_packed(options.file):
        packed, sizes = read_with_sizes(options.file, options.limit)
    else:
        state = read_state(options.file, options.limit)
        packed, sizes = state, {name: tensor.nbytes for name, tensor in state.items()}
    original = read_state(options.original, options.limit) if options.original else None
    table = inspection_table(packed, sizes, original)
    only = left_out(packed, original) if original else ""
    return [table, f"only in {options.original}: {only}"] if only else [table]


def _bench(options: argparse.Namespace) -> list[str | Table]:
    state = read_state(options.file, options.limit)
    rows = [_benched(state, *compared) for compared in _compared(options.bits)]
    if all(row.reason for row in rows):
        raise ValueError(f"{options.file}: {rows[0].reason}")
    return [bench_table(rows, sum(tensor.nbytes for tensor in state.values()))]


def _benched(state: Mapping[str, Tensor], name: str, bits: int, each: Method) -> BenchRow:
    try:
        packed = pack_tensors(state, each)
        size = sum(map(stored_size, encode_tensors(packed)[0]))
    except ValueError as error:
        return BenchRow(name, bits, reason=str(error))
    return BenchRow(name, bits, size, relative_error(state, {key: restore(entry) for key, entry in packed.items()}))


def _compared(bits: Sequence[int]) -> Iterator[tuple[str, int, Method]]:
    yield "float16", 16, cast(torch.float16)
    yield "bfloat16", 16, cast(torch.bfloat16)
    yield "min-max-8", 8, min_max_bytes()
    for count in bits:
        if count > 1:
            yield "affine, min-max", count, affine(AffineSpec(count))
            yield "affine, percentile", count, affine(AffineSpec(count, ranges=percentile))
            yield "affine, least-squares", count, affine(AffineSpec(count, ranges=least_squares))
            yield "affine, per tensor", count, affine(AffineSpec(count, axis=None))
        yield "codebook", count, codebook(count)


def _console() -> Console:
    # Into a pipe, rich would fold names of tensors at 80 columns.
    return Console() if sys.stdout and sys.stdout.isatty() else Console(width=160)
