"""The run store: one folder a finished run, whole or not there at all.

    runs/<key>/weights.safetensors  measurements.json  history.csv  manifest.json
    failed/<key>.json               why a run could not be made
    locks/<key>.lock, .owner        held while a run is made, and by whom
    locks/placing.lock              held while a run is moved in or out of its place
    checkpoints/<key>.checkpoint    how far an interrupted training came
    set-aside/                      what did not match its manifest
    runs/.partial-*                 what is being written, or was when its process was killed

A run is written to a temporary folder beside its place, verified, each file flushed to the disk, and then renamed. The
store may be read-only: then finished runs can be read, and all else is told of in one line.

* `run_store`, `stored_run`: the store, and the folder of one run
* `verified_runs`: reads what has not changed only once
* `partial`, `run_lock`, `errors`: what is being written, who makes a run, what the system refuses
* `listing`, `verification`, `garbage`: its care; `archive`, `archive_export`, `archive_import`: runs for others
* `commands`: what `python -m pytest_claims store` does
"""

from pytest_claims.store.errors import DamagedRunError, StoreError
from pytest_claims.store.run_store import Failure, Store
from pytest_claims.store.stored_run import HISTORY, MANIFEST, MEASUREMENTS, WEIGHTS, StoredRun, read_run, run_files

__all__ = [
    "HISTORY",
    "MANIFEST",
    "MEASUREMENTS",
    "WEIGHTS",
    "DamagedRunError",
    "Failure",
    "Store",
    "StoreError",
    "StoredRun",
    "read_run",
    "run_files",
]
