import numpy as np
import pytest
import torch
from rich.console import Console

from compression.cli.state_tables import BenchRow, bench_table, inspection_table, left_out, relative_error
from compression.packing.tensors import CastTensor
from compression.quantization.state_dict import quantize


def text(table):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_relative_error_is_that_of_all_tensors_as_one_vector():
    state = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[1.0]]), "n": torch.tensor(2)}
    restored = {"a": torch.tensor([3.0, 4.5]), "b": torch.tensor([[1.2]]), "n": torch.tensor(9)}
    expected = np.linalg.norm([0, 0.5, 0.2]) / np.linalg.norm([3, 4, 1])
    assert relative_error(state, restored) == pytest.approx(expected, rel=1e-6)
    assert relative_error({"a": torch.zeros(2)}, {"a": torch.zeros(2)}) == 0


def test_shares_add_up_and_names_are_no_markup():
    packed = {"[red]a": CastTensor(torch.ones(3).half(), torch.float32), "b": quantize(torch.ones(2, 2))}
    shown = text(inspection_table(packed, {"[red]a": 6, "b": 18}, None))
    assert "[red]a" in shown
    assert "25.0 %" in shown
    assert "75.0 %" in shown
    assert "min-max" in shown
    assert "relative error" not in shown


def test_of_many_tensors_left_out_the_first_are_named():
    original = {f"t{number}": torch.ones(100) for number in range(13)}
    expected = "12 tensors, 4,800 bytes: t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, ..."
    assert left_out({"t0": torch.ones(100)}, original) == expected
    assert left_out(original, original) == ""


def test_nothing_has_no_share():
    assert "total" in text(inspection_table({}, {}, None))
    assert "plain" in text(bench_table([BenchRow("method", 8, 0, 0.0)], 0))


def test_a_method_is_shown_against_the_plain_bytes():
    assert "0.250" in text(bench_table([BenchRow("affine", 8, 1000, 1e-3)], 4000))


def test_a_method_that_can_not_have_the_tensors_has_dashes_and_a_reason():
    rows = [
        BenchRow("float16", 16, reason="'[red]a\x1b' holds a value beyond 65504"),
        BenchRow("affine", 8, 1000, 1e-3),
    ]
    lines = [line.split() for line in text(bench_table(rows, 4000)).splitlines()]
    assert ["float16", "16", "-", "-", "-", "'[red]a\\x1b'", "holds", "a", "value", "beyond", "65504"] in lines
    assert ["affine", "8", "1,000", "0.250", "1.00e-03"] in lines


def test_a_name_neither_commands_the_terminal_nor_makes_a_row():
    names = ["a\x1b[2J\x1b]0;title.weight", "b\nforged", "c\u202e", "\ud800", "é"]
    shown = text(inspection_table({name: torch.ones(1) for name in names}, dict.fromkeys(names, 4), None))
    for escaped in (r"a\x1b[2J\x1b]0;title.weight", r"b\nforged", r"c\u202e", r"\ud800", "é"):
        assert f"  {escaped} " in shown
    assert "\x1b" not in shown
