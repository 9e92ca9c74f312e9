import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from our_project import OURS

from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.store import Store
from pytest_claims.suite.suite import Suite, SuiteOptions


@pytest.fixture
def temporary():
    """A folder for temporary files, short enough for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_session_makes_its_runs_on_a_ray_of_its_own_and_leaves_nothing_of_it(tmp_path, temporary):
    command = [sys.executable, "-m", "pytest", "-m", "reproduce", "-p", "no:cacheprovider", "--profile", "tiny"]
    options = [f"--store-dir={tmp_path / 'store'}", f"--results-dir={tmp_path / 'results'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    finished = subprocess.run(
        [*command, *options, "-k", "q2-student-parameters", "--ray", "local", "--jobs", "1"],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "\n1 of 1 runs to make on Ray, up to 1 at a time\n" in finished.stdout
    assert "\n[1/1] done student (shared); " in finished.stdout
    suite = Suite(SuiteOptions(OURS, "tiny", tmp_path / "store"))
    (key,) = suite.plan({"student": (0,)}).keys["student"]
    assert Store(tmp_path / "store").load(key).measurements["parameters"] == 256_779
    # Torch leaves a folder of its own wherever it is imported.
    assert [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")] == []
