"""A hash of the code that makes a run: the modules of this project that its builder reaches.

Comments, docstrings and layout don't count, so that an edited docstring rebuilds nothing and an edited helper does.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the packages."""

PACKAGES = ("compression", "experiments")


def code_fingerprint(modules: Iterable[str], root: Path = ROOT) -> str:
    """Hashes modules and everything of the project that they import, at whatever depth.

    A process reads each module once: its code does not change while it runs.

    Args:
        modules: Dotted names, of which each must exist.
        root: The folder that holds the packages.
    """
    return _fingerprint(tuple(modules), root)


@cache
def _fingerprint(modules: tuple[str, ...], root: Path) -> str:
    digests = [(name, _read(name, root).digest) for name in sorted(reachable_modules(modules, root))]
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def reachable_modules(modules: Iterable[str], root: Path = ROOT) -> set[str]:
    """The modules themselves and all of the project's that they import; parent packages are imported, too."""
    waiting, reached = list(modules), set[str]()
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        waiting += _read(name, root).imports
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return reached


@dataclass(frozen=True)
class _Module:
    """The hash of a module's syntax tree without docstrings, and the modules of the project that it imports."""

    digest: str
    imports: tuple[str, ...]


@cache
def _read(name: str, root: Path) -> _Module:
    path = _module_path(name, root)
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    nodes = list(_runtime_nodes(tree))
    for node in (tree, *nodes):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    imports = sorted({module for node in nodes for module in _imported_modules(node, root)})
    return _Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(imports))


def _module_path(name: str, root: Path) -> Path:
    stem = root.joinpath(*name.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"no module {name!r} under {root}")


def _is_docstring(statement: ast.stmt) -> bool:
    """Whether it is only a string: a docstring, also one below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imported_modules(node: ast.AST, root: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return
    for name in names:
        if name.partition(".")[0] in PACKAGES and _exists(name, root):
            yield name


def _exists(name: str, root: Path) -> bool:
    try:
        _module_path(name, root)
    except ModuleNotFoundError:
        return False
    return True


def _runtime_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes below but those under `if TYPE_CHECKING:`, which never run."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        parent = waiting.pop()
        for node in parent.orelse if _is_for_type_checkers(parent) else ast.iter_child_nodes(parent):
            yield node
            waiting.append(node)


def _is_for_type_checkers(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
