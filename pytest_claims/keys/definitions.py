"""Which statements of a module a function of it uses."""

import ast
from collections.abc import Iterator, Sequence
from typing import TypeGuard

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def used_statements(body: Sequence[ast.stmt], name: str) -> list[ast.stmt]:
    """Return the top-level statements that bind a name, or names that these use, in the module's order.

    Statements that bind no name, such as a call, may change anything and are always among them; so is an import of `*`.

    Args:
        body: The module's statements.
        name: What is asked for; nothing is returned if no statement binds it.
    """
    bound = [(statement, _bound_names(statement)) for statement in body]
    if not any(name in names for _, names in bound):
        return []
    used = {node for statement, names in bound if not names for node in _used_names(statement)} | {name}
    while True:
        chosen = [statement for statement, names in bound if not names or names & used]
        reached = used.union(*map(_used_names, chosen))
        if reached == used:
            return chosen
        used = reached


def _used_names(statement: ast.stmt) -> set[str]:
    """All names in it; those of local variables do no harm."""
    return {node.id for node in (statement, *runtime_nodes(statement)) if isinstance(node, ast.Name)}


def _bound_names(statement: ast.stmt) -> set[str]:
    """The names that a top-level statement binds in the module, in whichever of its branches."""
    names, waiting = set[str](), [statement, *_children(statement)]
    for node in waiting:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below that are not inside a function or a class of their own."""
    if isinstance(node, _SCOPES):
        return
    for child in _runtime_children(node):
        yield child
        yield from _children(child)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below but those under `if TYPE_CHECKING:`, which never run."""
    waiting = [tree]
    while waiting:
        for node in _runtime_children(waiting.pop()):
            yield node
            waiting.append(node)


def _runtime_children(node: ast.AST) -> Iterator[ast.AST]:
    return iter(node.orelse) if _is_for_type_checkers(node) else ast.iter_child_nodes(node)


def _is_for_type_checkers(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
