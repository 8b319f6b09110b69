"""Importing a user's own code by name, `import:package.module:name`, in this one place.

It is part of `stores` because a store that is unpickled in a worker process imports the correction
that it was allowed to.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from logitbank.stores.errors import UsageError, unknown_name

IMPORT = "import:"
INSTALLED = {"site-packages", "dist-packages"}


def import_factory(name: str) -> Callable[..., Any]:
    """Import the function of a spec `import:package.module:factory`.

    Args:
        name: the spec without `import:`.

    Raises:
        UsageError: the name has another form, or there is no such module or function.
    """
    spec = f"{IMPORT}{name}"
    module, attribute = import_spec(spec, "factory")
    factory = getattr(module, attribute, None)
    if factory is None:
        public = [each for each in vars(module) if not each.startswith("_")]
        raise unknown_name(f"function of {module.__name__}", attribute, public)
    if not callable(factory):
        raise UsageError(f"{spec} is a {type(factory).__name__}, not a function")
    return factory


def import_spec(spec: str, kind: str) -> tuple[ModuleType, str]:
    """Import the module of a spec `import:package.module:name`.

    Args:
        spec: the whole spec.
        kind: what errors call its last part.

    Returns:
        The module, and the name after it.

    Raises:
        UsageError: the spec has another form, or there is no such module, or importing it fails.
    """
    module, colon, name = spec.removeprefix(IMPORT).partition(":")
    if not (spec.startswith(IMPORT) and module and colon and name):
        raise UsageError(f"{spec} is not of the form {IMPORT}package.module:{kind}")
    return import_module(module, spec), name


def import_module(name: str, spec: str) -> ModuleType:
    """Import a module that a spec names.

    The current folder is appended to `sys.path` and stays there, so that later imports by the
    module, and unpickling in worker processes, find it too.

    Raises:
        UsageError: there is no such module, or importing it fails; `spec` is named.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{spec}: no module {error.name!r} in the environment or in {here}"
        ) from error
    except Exception as error:  # the user's module may raise anything while it is imported
        raise UsageError(
            f"{spec}: importing {name} failed: {type(error).__name__}: {error}"
        ) from error


def module_of_spec(spec: str) -> str | None:
    """Return the name of the module that a spec imports, None for a spec of another kind.

    >>> module_of_spec("import:mine.nets:teacher@weights.pth"), module_of_spec("cifar:resnet8")
    ('mine.nets', None)
    """
    if not spec.startswith(IMPORT):
        return None
    return spec.removeprefix(IMPORT).partition(":")[0] or None


def forget_modules(names: Iterable[str]) -> list[str]:
    """Remove imported modules from `sys.modules`, so that the next import reads their files again.

    Everything imported from the same folder goes too, unless it is one of installed packages: a
    user may edit any of it between two jobs on one worker. Existing objects keep the old code.

    Args:
        names: module names, such as `package.module`.

    Returns:
        The names of the modules removed.
    """
    roots = set()
    for name in names:
        module = sys.modules.get(name.partition(".")[0])
        if module is not None and (root := _root(module)) is not None:
            roots.add(root)
    forgotten = [name for name, module in list(sys.modules.items()) if _root(module) in roots]
    for name in forgotten:
        del sys.modules[name]
    return forgotten if roots else []


def _root(module: ModuleType) -> Path | None:
    """Return the folder of a module's top-level package, None if it is installed."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    file = getattr(top, "__file__", None)
    if file is None or top.__name__ in ("__main__", "logitbank"):
        return None
    folder = Path(file).parent
    root = folder.parent if Path(file).stem == "__init__" else folder
    is_installed = INSTALLED & set(root.parts) or root.is_relative_to(sysconfig.get_path("stdlib"))
    return None if is_installed else root
