"""Importing a user's own code by its name, `import:package.module:name`: here and nowhere else.

It lies with the stores because a store that was pickled to a worker process imports the correction
that it was allowed to, where it is read.
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
        spec: the whole of it.
        kind: what its last part is called in an error.

    Returns:
        The module, and the name behind it.

    Raises:
        UsageError: the spec has another form, or there is no such module, or it fails.
    """
    module, colon, name = spec.removeprefix(IMPORT).partition(":")
    if not (spec.startswith(IMPORT) and module and colon and name):
        raise UsageError(f"{spec} is not of the form {IMPORT}package.module:{kind}")
    return import_module(module, spec), name


def import_module(name: str, spec: str) -> ModuleType:
    """Import a module that a spec names.

    The current folder is put at the end of `sys.path` and stays there, so that what the module
    imports later, and what worker processes unpickle, is found as well.

    Raises:
        UsageError: there is no such module, or it fails; `spec` is named.
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
    """Name the module that a spec imports, None for a spec of another kind.

    >>> module_of_spec("import:mine.nets:teacher@weights.pth"), module_of_spec("cifar:resnet8")
    ('mine.nets', None)
    """
    if not spec.startswith(IMPORT):
        return None
    return spec.removeprefix(IMPORT).partition(":")[0] or None


def forget_modules(names: Iterable[str]) -> list[str]:
    """Forget modules that were imported before, so that the next import reads their files again.

    With each module goes all that was imported from the folder that it lies in, unless that is one
    of installed packages: what a user edits between two jobs of one worker. Objects made of the old
    code live on with it.

    Args:
        names: of modules, such as `package.module`.

    Returns:
        The names of the modules forgotten.
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
    """Return the folder that a top-level module was found in, None for an installed one's."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    file = getattr(top, "__file__", None)
    if file is None or top.__name__ in ("__main__", "logitbank"):
        return None
    folder = Path(file).parent
    root = folder.parent if Path(file).stem == "__init__" else folder
    is_installed = INSTALLED & set(root.parts) or root.is_relative_to(sysconfig.get_path("stdlib"))
    return None if is_installed else root
