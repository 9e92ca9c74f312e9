"""Who imports whom: the methods share `layers` and know nothing of each other, and there is no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import compression

FOLDER = Path(compression.__file__).parent
METHODS = ("architecture", "distillation", "low_rank", "pruning", "quantization")
FILES = {
    ".".join(("compression", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in FOLDER.rglob("*.py")
}


def imported(name):
    """The modules of the package that a module imports when it is imported itself, or later in a function."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    for_type_checkers = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in for_type_checkers]
    modules = {module for node in nodes for module in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}
    return modules & FILES.keys()


def room(name):
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("method", METHODS)
def test_a_method_imports_no_other_method(method):
    rooms = {room(each) for name in FILES if room(name) == f"compression.{method}" for each in imported(name)}
    assert not rooms & {f"compression.{other}" for other in (*METHODS, "packing", "cli") if other != method}


def test_what_methods_share_imports_none_of_them():
    rooms = {room(each) for name in FILES if room(name) == "compression.layers" for each in imported(name)}
    assert rooms == {"compression.layers", "compression.lazy"}


def test_no_module_imports_itself_in_a_circle():
    order = list(TopologicalSorter({name: imported(name) for name in FILES}).static_order())
    assert set(order) == FILES.keys()
    assert order.index("compression.layers.names") < order.index("compression.pruning.graph")
