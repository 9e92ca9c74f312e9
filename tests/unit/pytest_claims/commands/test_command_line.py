import os
import subprocess
import sys

import pytest
from small_runs import save_small

from pytest_claims.commands.command_line import main
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import Store

COMMANDS = ["list", "verify", "gc", "export", "import"]


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def test_the_program_tells_its_commands_and_what_hashes_prove():
    shown = python("-m", "pytest_claims", "store", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(f"    {command} " in shown.stdout for command in COMMANDS)
    assert "do not prove that training made it" in " ".join(shown.stdout.split())


LOADED = """
import contextlib, io, sys
from pytest_claims.commands.command_line import main

with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "rich", "numpy", "pydantic", "filelock"}))
"""


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_loads_nothing_that_takes_time(command):
    shown = python("-c", LOADED, "store", *command, "--help")
    assert (shown.stdout, shown.stderr) == ("\n", "")


def test_no_command_loads_torch(tmp_path):
    save_small(Store(tmp_path), 1)
    shown = python("-c", LOADED, "store", "list", "--store-dir", str(tmp_path))
    assert "rich" in shown.stdout.split()
    assert "torch" not in shown.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: PROGRAM"),
        (["store"], "required: COMMAND"),
        (["store", "empty"], "invalid choice: 'empty'"),
        (["store", "list", "--colour"], "unrecognized arguments: --colour"),
        (["store", "export"], "required: ARCHIVE"),
        (["store", "import"], "required: ARCHIVE"),
        (["store", "gc", "--seeds", "x"], "argument --seeds: 'x' must be a number of seeds"),
        (["store", "gc", "--seeds", "1,1"], "argument --seeds: '1,1' must be a number of seeds"),
        (["store", "gc", "--seeds", "0"], "argument --seeds: '0' must be a number of seeds"),
        (["store", "gc", "--seeds", "-1"], "--seeds"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert message in shown.err


def test_the_store_is_in_the_current_folder_unless_told(tmp_path, monkeypatch, capsys):
    save_small(Store(tmp_path / ".runs"), 1)
    monkeypatch.chdir(tmp_path)
    assert main(["store", "list"]) == 0
    assert "1 finished runs" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path):
    save_small(Store(tmp_path), 1)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pytest_claims", "store", "list", "--json", "--store-dir", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
