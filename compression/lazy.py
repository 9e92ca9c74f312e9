"""Public names of a package that are imported at their first use: importing the package alone takes no time.

A package's `__init__`, whose one public name lies in its module `cut`:

    if TYPE_CHECKING:
        from compression.pruning.cut import prune
    else:
        __getattr__, __dir__ = lazy_names(__name__, {"cut": "prune"})

    __all__ = ["prune"]
"""

import sys
from collections.abc import Callable, Mapping
from pkgutil import resolve_name


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a package (PEP 562) that import its public names when they are used.

    Args:
        package: Full name of the package, its `__name__`.
        modules: For each module of the package, the public names that it defines, with spaces between them. None may
            be a module's own name, which stands for the module once that is imported.

    Returns:
        `__getattr__`, which imports a name's module, and `__dir__`, which lists these names beside all others.
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return resolve_name(f"{package}.{homes[name]}:{name}")

    return get, lambda: sorted({*vars(sys.modules[package]), *homes})
