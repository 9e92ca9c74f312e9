import gc

import pytest


@pytest.fixture(autouse=True)
def _quick_garbage_collection():
    # statsmodels' Holm collects garbage at every call, 50 ms with all of this process's objects to look at.
    gc.freeze()
    yield
    gc.unfreeze()
