"""What the command line prints: tensors of a file, and methods compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from compression.cli.printable import printable
from compression.packing.tensors import CastTensor, Packable, restore
from compression.quantization.affine import AffineTensor
from compression.quantization.codebook import CodebookTensor
from compression.quantization.state_dict import QuantizedTensor

_NAMES: Final = 10


@dataclass(frozen=True)
class BenchRow:
    """A method, compared.

    Attributes:
        method: Its name.
        bits: Bits of a code or number.
        size: Bytes of all tensors; None if the method can't have them.
        error: `relative_error`; None as `size`.
        reason: Why it can't, or empty.
    """

    method: str
    bits: int
    size: int | None = None
    error: float | None = None
    reason: str = ""


def relative_error(state: Mapping[str, Tensor], restored: Mapping[str, Tensor]) -> float:
    """Return the norm of the changes of all floating point tensors over the tensors' norm; 0 if that is 0.

    Both norms are over all tensors together, in float64.
    """
    names = [name for name, tensor in state.items() if tensor.is_floating_point()]
    changed = math.hypot(*(float((restored[name].double() - state[name].double()).norm()) for name in names))
    norm = math.hypot(*(float(state[name].double().norm()) for name in names))
    return changed / norm if norm else 0.0


def inspection_table(
    packed: Mapping[str, Packable], sizes: Mapping[str, int], original: Mapping[str, Tensor] | None
) -> Table:
    """Make a table with a row for each tensor.

    Args:
        packed: The tensors as a file holds them.
        sizes: Bytes of each.
        original: What they were made of; the error is shown if it is given.

    Raises:
        ValueError: If the original has no such tensor, or one of another shape.
    """
    table = Table(box=box.SIMPLE, show_footer=True)
    total = sum(sizes.values())
    table.add_column("tensor", "total")
    for header, footer in (("kind", ""), ("shape", ""), ("bits", ""), ("bytes", f"{total:,}"), ("share", "100.0 %")):
        table.add_column(header, footer, justify="right" if header != "kind" else "left", no_wrap=True)
    if original is not None:
        table.add_column("relative error", justify="right")
    for name, entry in packed.items():
        kind, bits, shape = _describe(entry)
        share = f"{100 * sizes[name] / total:.1f} %" if total else ""
        row = [
            escape(printable(name)),
            kind,
            "x".join(map(str, shape)) or "scalar",
            str(bits),
            f"{sizes[name]:,}",
            share,
        ]
        table.add_row(*row, *([] if original is None else [_error(name, entry, original)]))
    return table


def left_out(packed: Mapping[str, Packable], original: Mapping[str, Tensor]) -> str:
    """Tell how many tensors only the original has, their bytes, and the first names; empty if there are none."""
    only = {name: tensor.nbytes for name, tensor in original.items() if name not in packed}
    names = [*list(only)[:_NAMES], *(["..."] if len(only) > _NAMES else [])]
    return f"{len(only)} tensors, {sum(only.values()):,} bytes: {', '.join(names)}" if only else ""


def bench_table(rows: Sequence[BenchRow], plain: int) -> Table:
    """Make a table with a row for each method: bits, bytes and relative error, or why it has none.

    Args:
        rows: The methods.
        plain: Bytes of what was packed.
    """
    table = Table(box=box.SIMPLE)
    table.add_column("method")
    for header in ("bits", "bytes", "of plain", "relative error"):
        table.add_column(header, justify="right")
    if any(row.reason for row in rows):
        table.add_column("reason")
    table.add_row("plain", "", f"{plain:,}", "1.000", "0")
    for row in rows:
        size = "-" if row.size is None else f"{row.size:,}"
        share = "-" if row.size is None else f"{row.size / plain:.3f}" if plain else ""
        error = "-" if row.error is None else f"{row.error:.2e}"
        reason = [escape(printable(row.reason))] if row.reason else []
        table.add_row(row.method, str(row.bits), size, share, error, *reason)
    return table


def _describe(entry: Packable) -> tuple[str, int, tuple[int, ...]]:
    if isinstance(entry, Tensor):
        return str(entry.dtype).removeprefix("torch."), 8 * entry.element_size(), tuple(entry.shape)
    if isinstance(entry, CastTensor):
        return "cast", 8 * entry.values.element_size(), tuple(entry.values.shape)
    kinds = {AffineTensor: "affine", CodebookTensor: "codebook", QuantizedTensor: "min-max"}
    bits = 8 if isinstance(entry, QuantizedTensor) else _bits(entry)
    return kinds[type(entry)], bits, tuple(entry.codes.shape)


def _bits(entry: AffineTensor | CodebookTensor) -> int:
    return entry.grid.bits if isinstance(entry, AffineTensor) else entry.bits


def _error(name: str, entry: Packable, original: Mapping[str, Tensor]) -> str:
    restored = restore(entry)
    if name not in original or original[name].shape != restored.shape:
        found = tuple(original[name].shape) if name in original else "no such tensor"
        raise ValueError(f"tensor {name!r} has shape {tuple(restored.shape)}; the original has {found}")
    return f"{relative_error({name: original[name]}, {name: restored}):.2e}" if restored.is_floating_point() else ""
