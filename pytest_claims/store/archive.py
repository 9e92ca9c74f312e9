"""The archive by which runs go from store to store: a tar file of a strict form.

    archive.json                    format and the keys, sorted
    runs/<key>/manifest.json        then measurements.json, history.csv and weights.safetensors, for each key in turn

Nothing else is in it, in no other order, so that reading it needs no trust in any name. No member has an owner or a
time: the same runs give the same bytes (compressed ones by the same zlib).
"""

import re

from pytest_claims.store.stored_run import HISTORY, MANIFEST, MEASUREMENTS, WEIGHTS

FORMAT = 1
INDEX = "archive.json"

MEMBERS = (MANIFEST, MEASUREMENTS, HISTORY, WEIGHTS)
"""In the order they come, so that a reader knows the hashes first, and the size of the weights before it meets them."""

MOST_BYTES = {INDEX: 2**24, MANIFEST: 2**20, MEASUREMENTS: 2**20, HISTORY: 2**26, WEIGHTS: 2**31}
"""Far more than any run has: eleven million weights are 45 MB."""

COMPRESSED = (".tar.gz", ".tgz")
PLAIN = (".tar",)
GZIP_MAGIC = b"\x1f\x8b"


class ArchiveError(ValueError):
    """An archive is not what it should be; the message names it and the member."""


def is_key(text: object) -> bool:
    """Whether something is a run's key, and so a safe name of a folder."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def member_name(key: str, name: str) -> str:
    """What a run's file is called in the archive."""
    return f"runs/{key}/{name}"
