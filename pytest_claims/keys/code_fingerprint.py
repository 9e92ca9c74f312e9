"""A hash of the code that makes a run: the modules that its builder reaches.

Of the project's own modules and of this package's every statement counts. Comments, docstrings and layout don't, so
that an edited docstring rebuilds nothing and an edited helper does. Of other people's packages the version counts.

Of a function, given as `module:function`, only what it uses counts: the top-level statements of its module that bind
names which it uses, and so on, through `from helpers import halve`, too; and statements that bind no name, such as a
call. So an edited recipe rebuilds itself and what is made from it, and not its neighbours.

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

from pytest_claims.keys.definitions import runtime_nodes, used_statements

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
        modules: Dotted names, or `module:function`, of which each must exist.
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
    """What counts of a module, or of one of its functions.

    Attributes:
        path: Its file.
        digest: Hash of its syntax tree without docstrings.
        imports: Modules of the project that it imports, and `module:name` for what it imports from one.
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
        modules: Dotted names, or `module:function`, of which each must exist.
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
        if package := name.partition(":")[0].rpartition(".")[0]:
            waiting.append(package)
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
def _read(item: str, paths: tuple[Path, ...]) -> Module:
    name, _, function = item.partition(":")
    path = module_path(name, paths)
    if path is None:
        raise ModuleNotFoundError(f"no module {name!r} under {' or '.join(map(str, paths or (ROOT,)))}")
    tree = _parse(path)
    silent = any(map(_says_silent, tree.body))
    statements = used_statements(tree.body, function) if function else tree.body
    if function and not statements:
        raise ModuleNotFoundError(f"{path}: has no {function!r}")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    own, foreign = set[str](), set[str]()
    for node in (node for statement in statements for node in (statement, *runtime_nodes(statement))):
        for imported, member in _imported_names(node, package):
            own.update(_own(imported, member, paths, whole=not function))
            top = imported.partition(".")[0]
            if top not in sys.stdlib_module_names and not module_path(top, paths):
                foreign.add(top)
    digest = hashlib.sha256("".join(map(ast.dump, statements)).encode()).hexdigest()
    return Module(path, digest, tuple(sorted(own)), tuple(sorted(foreign)), silent)


@cache
def _parse(path: Path) -> ast.Module:
    """A module's syntax tree without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in (tree, *runtime_nodes(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_docstring(statement)]
    return tree


def _own(module: str, member: str, paths: tuple[Path, ...], *, whole: bool) -> Iterator[str]:
    """What an import brings of the project: modules, and where only functions count, what is taken from one."""
    path = module_path(module, paths)
    if path is None:
        return
    if member and module_path(f"{module}.{member}", paths):
        yield from (module, f"{module}.{member}")
    elif member and not whole and used_statements(_parse(path).body, member):
        yield f"{module}:{member}"
    else:
        yield module


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


def _imported_names(node: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """The modules that an import statement in a module of a package names, each with what it takes from it, if so."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield from ((module, alias.name) for alias in node.names)
