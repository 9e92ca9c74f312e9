"""No package has more rooms than a person can keep in mind, and no module of the engine imports itself in a circle."""

import ast
from graphlib import TopologicalSorter

import pytest

from pytest_claims.keys.code_fingerprint import ROOT

MOST_ROOMS = 15
"""Modules and packages of a package, its `__init__` among them."""

PACKAGES = sorted(
    path.parent.relative_to(ROOT)
    for top in ("compression", "experiments", "pytest_claims")
    for path in (ROOT / top).rglob("__init__.py")
)
ENGINE = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "pytest_claims").rglob("*.py")
}


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_has_few_rooms(package):
    folder = ROOT / package
    rooms = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert len(rooms) <= MOST_ROOMS


def imported(name):
    """The modules of the engine that a module imports, at once or in a function."""
    tree = ast.parse(ENGINE[name].read_text(encoding="utf-8"))
    for_type_checkers = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in for_type_checkers]
    names = [(node.module, f"{node.module}.{alias.name}") for node in nodes for alias in node.names]
    return {inner if inner in ENGINE else module for module, inner in names} & ENGINE.keys()


def test_no_module_of_the_engine_imports_itself_in_a_circle():
    graph = {name: imported(name) - {name} for name in ENGINE}
    assert graph["pytest_claims.workers.building"] >= {"pytest_claims.workers.driver", "pytest_claims.suite.suite"}
    TopologicalSorter(graph).prepare()
