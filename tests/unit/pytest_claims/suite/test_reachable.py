import pytest
from our_project import OURS

from pytest_claims.recipes.profile import ProfileError
from pytest_claims.suite.reachable import reachable_keys
from pytest_claims.suite.suite import Suite, SuiteOptions


def test_reachable_are_all_models_of_the_profiles_with_their_seeds(tmp_path):
    options = SuiteOptions(OURS, "tiny", tmp_path, seeds=(0, 3))
    suite = Suite(options)
    keys = reachable_keys([options])
    assert keys == set(suite.plan(dict.fromkeys(suite.catalog, (0, 3))).runs)
    assert suite.plan({"student-scratch": (3,)}).runs.keys() < keys
    assert not keys.issuperset(suite.plan({"student-scratch": (4,)}).runs)
    both = reachable_keys([options, SuiteOptions(OURS, "tiny", tmp_path, seeds=(4,))])
    assert both == keys | reachable_keys([SuiteOptions(OURS, "tiny", tmp_path, seeds=(4,))])
    assert reachable_keys([]) == set()
    with pytest.raises(ProfileError, match="--profile none"):
        reachable_keys([SuiteOptions(OURS, "none", tmp_path)])
