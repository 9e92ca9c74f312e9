"""A hash of the code that makes a run: the modules that its builder reaches.

Of the project's own modules and of this package's every statement counts. Comments, docstrings and layout don't, so
that an edited docstring rebuilds nothing and an edited helper does. Of other people's packages the version counts.

A module that decides no byte of any run says so, and is left out with all that only it reaches:

    DECIDES_BYTES = False
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TypeGuard

ENGINE = "pytest_claims"
"""This package."""

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds it."""

_SILENT = "DECIDES_BYTES"
_DISTRIBUTIONS = {"PIL": "pillow"}
"""Of packages whose distribution has another name; others are looked up, which takes half a second."""


def code_fingerprint(modules: Iterable[str], paths: Sequence[Path] = ()) -> str:
    """Hash modules and everything that they import, at whatever depth.

    A process reads each module once: its code does not change while it runs.

    Args:
        modules: Dotted names, of which each must exist.
        paths: The folders that the project's modules are imported from.
    """
    return _fingerprint(tuple(modules), tuple(paths))


@cache
def _fingerprint(modules: tuple[str, ...], paths: tuple[Path, ...]) -> str:
    reached = reachable_modules(modules, paths, silent=False)
    digests = [(name, module.digest) for name, module in sorted(reached.items())]
    packages = sorted({package for module in reached.values() for package in module.packages})
    parts = (digests, [(package, _version(package)) for package in packages])
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Module:
    """What counts of a module.

    Attributes:
        path: Its file.
        digest: Hash of its syntax tree without docstrings.
        imports: Modules of the project that it imports.
        packages: Other people's packages that it imports.
        silent: Whether it says that it decides no byte.
    """

    path: Path
    digest: str
    imports: tuple[str, ...]
    packages: tuple[str, ...]
    silent: bool


def reachable_modules(modules: Iterable[str], paths: Sequence[Path] = (), *, silent: bool = True) -> dict[str, Module]:
    """Return modules and all of the project's that they import, by name; parent packages are imported, too.

    Args:
        modules: Dotted names, of which each must exist.
        paths: The folders that the project's modules are imported from.
        silent: Take in those that decide no byte, too.
    """
    waiting, reached = list(modules), dict[str, Module]()
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        module = _read(name, tuple(paths))
        if module.silent and not silent:
            continue
        reached[name] = module
        waiting += module.imports
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return reached


@cache
def _version(package: str) -> str:
    """The version of the distribution that holds a package; empty for a module that lies about in no distribution."""
    try:
        return version(_DISTRIBUTIONS.get(package, package))
    except PackageNotFoundError:
        return " ".join(version(name) for name in sorted(_distributions().get(package, ())))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def _read(name: str, paths: tuple[Path, ...]) -> Module:
    path = module_path(name, paths)
    if path is None:
        raise ModuleNotFoundError(f"no module {name!r} under {' or '.join(map(str, paths or (ROOT,)))}")
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    nodes = list(_runtime_nodes(tree))
    for node in (tree, *nodes):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    named = {imported for node in nodes for imported in _imported_names(node, package)}
    own = {imported for imported in named if module_path(imported, paths)}
    tops = {imported.partition(".")[0] for imported in named}
    foreign = {top for top in tops if top not in sys.stdlib_module_names and not module_path(top, paths)}
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return Module(path, digest, tuple(sorted(own)), tuple(sorted(foreign)), any(map(_says_silent, tree.body)))


def module_path(name: str, paths: Sequence[Path] = ()) -> Path | None:
    """Return the file of a module of the project or of this package; None for all others."""
    roots = (ROOT,) if name.partition(".")[0] == ENGINE else tuple(paths)
    for root in roots:
        stem = root.joinpath(*name.split("."))
        for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if path.is_file():
                return path
    return None


def _says_silent(statement: ast.stmt) -> bool:
    """Whether it is `DECIDES_BYTES = False`."""
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value is False
        and any(isinstance(target, ast.Name) and target.id == _SILENT for target in statement.targets)
    )


def _is_docstring(statement: ast.stmt) -> bool:
    """Whether it is only a string: a docstring, also one below an attribute."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    """The names that an import statement in a module of a package may import, modules or not."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)


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
