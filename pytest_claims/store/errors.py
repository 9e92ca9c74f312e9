"""What can be wrong with the run store."""

from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(RuntimeError):
    """The store cannot be used; the message names the path."""


class DamagedRunError(StoreError):
    """A run's folder is not what its manifest says."""


@contextmanager
def as_store_error(what: str) -> Iterator[None]:
    """Turns whatever the system refuses, such as to write on a full disk, into one line that begins with `what`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what} ({error.strerror or error})") from error
