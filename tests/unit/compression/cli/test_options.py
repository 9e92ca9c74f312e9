import subprocess
import sys
from pathlib import Path

import pytest

from compression.cli.options import main

ROOT = Path(__file__).parents[4]


HELP = """
import sys
from compression.cli.options import main
try:
    main(["pack", "--help"])
finally:
    assert "torch" not in sys.modules
"""


def test_help_imports_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True, check=True, timeout=600
    )
    assert "--bits BITS" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["squash"], "invalid choice: 'squash'"),
        (["pack", "file"], "required: -o/--output"),
        (["pack", "file", "-o", "out", "--bits", "9"], "'9' is no number from 1 to 8"),
        (["pack", "file", "-o", "out", "--bits", "x"], "'x' is no number from 1 to 8"),
        (["pack", "file", "-o", "out", "--share", "0"], "'0' is no percentage"),
        (["pack", "file", "-o", "out", "--share", "nan"], "'nan' is no percentage"),
        (["pack", "file", "-o", "out", "--bits", "1"], "--method affine takes 2 to 8"),
        (["pack", "file", "-o", "out", "--method", "min-max-8", "--bits", "4"], "--bits: is for --method affine or"),
        (["pack", "file", "-o", "out", "--method", "float16", "--asymmetric"], "--asymmetric: is for --method affine,"),
        (
            ["pack", "file", "-o", "out", "--method", "codebook", "--per-tensor"],
            "--per-tensor: is for --method affine,",
        ),
        (["pack", "file", "-o", "out", "--method", "codebook", "--ranges", "min-max"], "--ranges: is for --method"),
        (["pack", "file", "-o", "out", "--method", "none", "--no-entropy"], "--no-entropy: is for --method affine or"),
        (["pack", "file", "-o", "out", "--share", "50"], "--share: is for --ranges percentile"),
        (["pack", "file", "-o", "out", "--share", "50", "--ranges", "min-max"], "--share: is for --ranges percentile"),
        (["pack", "file", "-o", "out", "a\x1b[2J"], r"a\x1b[2J"),
        (["pack", "file", "-o", "out/x/"], "-o/--output: 'out/x/' is a folder; a file is needed"),
        (["unpack", "file", "-o", "out/."], "-o/--output: 'out/.' is a folder; a file is needed"),
        (["pack", "file", "-o", "-"], "-o/--output: standard output is not supported; ./- is a file called so"),
        (["bench", "file", "--bits", "8,9"], "'9' is no number from 1 to 8"),
        (["bench", "--bits", "4,", "file"], "'' is no number from 1 to 8"),
        (["unpack", "file", "-o", "out", "--limit", "-1"], "'-1' is no number of GiB above 0"),
        (["unpack", "file", "-o", "out", "--limit", "inf"], "'inf' is no number of GiB above 0"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_module_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "compression", "inspect", str(tmp_path / "absent")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("compression inspect: [Errno 2] No such file or directory")
    assert done.stderr.count("\n") == 1
