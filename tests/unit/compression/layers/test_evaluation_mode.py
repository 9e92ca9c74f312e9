import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compression.layers.evaluation_mode import evaluation_mode


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_each_module_has_its_own_flag_again_after_an_error_too(flags, fails):
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2)))
    for module, flag in zip(model.modules(), flags, strict=True):
        module.training = flag
    seen = []

    def run():
        with evaluation_mode(model):
            seen.extend(module.training for module in model.modules())
            if fails:
                raise KeyError("inside")

    if fails:
        with pytest.raises(KeyError, match="inside"):
            run()
    else:
        run()
    assert seen == [False] * 4
    assert [module.training for module in model.modules()] == flags
