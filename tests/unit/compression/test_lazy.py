import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import compression
from compression.lazy import lazy_names

ROOT = Path(compression.__file__).parents[1]
PACKAGES = [
    "compression",
    *(f"compression.{each.name}" for each in pkgutil.iter_modules(compression.__path__) if each.ispkg),
]


def names_for_type_checkers(package):
    """The public names by module, as the package's `if TYPE_CHECKING:` imports them."""
    (block,) = (node for node in ast.parse(inspect.getsource(package)).body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_can_be_imported_and_is_no_modules_name(name):
    package = importlib.import_module(name)
    assert package.__all__
    assert len(set(package.__all__)) == len(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    modules = {each.name for each in pkgutil.iter_modules(package.__path__)}
    for public in package.__all__:
        assert not inspect.ismodule(getattr(package, public))
        assert public not in modules


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "compression.cli"])
def test_type_checkers_see_the_same_names_from_the_same_modules(name):
    package = importlib.import_module(name)
    seen = names_for_type_checkers(package)
    assert seen.keys() == set(package.__all__)
    for public, module in seen.items():
        assert getattr(importlib.import_module(module), public) is getattr(package, public)


def test_another_name_is_an_error_as_in_any_module():
    with pytest.raises(AttributeError, match=r"module 'compression\.pruning' has no attribute 'no_such'"):
        importlib.import_module("compression.pruning").no_such  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'no_such'"):
        exec("from compression.pruning import no_such")


def test_names_lie_beside_those_that_the_package_has_at_once():
    get, names = lazy_names("compression.cli", {"printable": "printable"})
    assert {"main", "printable"} <= set(names())
    assert get("printable")("\x1b") == r"\x1b"


def test_importing_packages_does_not_import_torch():
    script = f"import sys, {', '.join(PACKAGES)}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True, timeout=600
    )
    assert found.stdout.split() == ["False", "False"]
