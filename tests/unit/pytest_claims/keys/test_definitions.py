import ast

import pytest

from pytest_claims.keys.definitions import used_statements

MODULE = """
import numpy as np
from helpers import halve, quarter as fourth
import paper.deep.tools
SIZE = 3
OTHER: int = 4
SIZE += 1
try:
    import fast
except ImportError:
    fast = None
if SIZE > 2:
    def grown(x):
        return x + SIZE
else:
    def grown(x):
        return x
class Net:
    width = OTHER
def plain(x):
    return x
def made(x):
    return grown(halve(x))
def net():
    return Net()
def speedy():
    return fast
def deep():
    return paper.deep.tools.go()
"""


def used(name, text=MODULE):
    return {ast.unparse(statement).splitlines()[0] for statement in used_statements(ast.parse(text).body, name)}


@pytest.mark.parametrize(
    ("name", "statements"),
    [
        ("plain", {"def plain(x):"}),
        (
            "made",
            {
                "def made(x):",
                "if SIZE > 2:",
                "SIZE = 3",
                "SIZE += 1",
                "from helpers import halve, quarter as fourth",
            },
        ),
        ("net", {"def net():", "class Net:", "OTHER: int = 4"}),
        ("speedy", {"def speedy():", "try:"}),
        ("deep", {"def deep():", "import paper.deep.tools"}),
        ("fourth", {"from helpers import halve, quarter as fourth"}),
        ("quarter", set()),
        ("absent", set()),
        ("x", set()),
    ],
)
def test_only_what_a_function_uses_counts(name, statements):
    assert used(name) == statements


def test_statements_that_bind_nothing_always_count_with_what_they_use():
    text = "import torch\nSEED = 3\nEXTRA = 4\ntorch.manual_seed(SEED)\nclass A: pass\nA.x = 1\ndef f(): return 1\n"
    assert used("f", text) == {"def f():", "torch.manual_seed(SEED)", "import torch", "SEED = 3", "class A:", "A.x = 1"}


def test_names_inside_functions_bind_nothing_in_the_module():
    text = "def f():\n    inner = 1\n    def g(): return inner\n    return g\n"
    assert used("inner", text) == used("g", text) == set()


def test_what_is_for_type_checkers_alone_does_not_count():
    text = "if TYPE_CHECKING:\n    from x import T\nelse:\n    T = object\ndef f() -> T: return T()\n"
    assert used("f", text) == {"if TYPE_CHECKING:", "def f() -> T:"}


def test_an_import_of_everything_may_bind_any_name_and_always_counts():
    text = "from helpers import *\nfrom others import *\nfrom x import y\ndef f(): return halve(1)\n"
    assert used("f", text) == {"def f():", "from helpers import *", "from others import *"}
