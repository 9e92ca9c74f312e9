import errno

import pytest

from pytest_claims.store.errors import DamagedRunError, StoreError, as_store_error


def test_what_the_system_refuses_becomes_one_line():
    with pytest.raises(StoreError) as caught, as_store_error("run store here: cannot be read"):
        raise OSError(errno.ENOSPC, "No space left on device", "a file")
    assert str(caught.value) == "run store here: cannot be read (No space left on device)"


def test_a_refusal_without_a_name_keeps_its_text():
    with pytest.raises(StoreError, match=r"^here \(odd\)$"), as_store_error("here"):
        raise OSError("odd")


def test_other_errors_pass():
    with pytest.raises(DamagedRunError, match=r"^damaged$"), as_store_error("here"):
        raise DamagedRunError("damaged")
