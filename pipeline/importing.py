"""Finding a user's own function by name, for `import:package.module:factory` specs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from logitbank.stores.errors import UsageError, unknown_name


def import_factory(name: str) -> Callable[..., Any]:
    """Find `package.module:factory`, in the environment or in the current folder.

    The current folder is put at the end of `sys.path` and stays there, so that what the factory
    imports later, and what worker processes unpickle, is found as well.

    Raises:
        UsageError: the name has another form, or there is no such module or function.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"import:{name} is not of the form import:package.module:factory")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"import:{name}: no module {error.name!r} in the environment or in {here}"
        ) from error
    except Exception as error:  # the user's module may raise anything while it is imported
        raise UsageError(
            f"import:{name}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    factory = getattr(module, attribute, None)
    if factory is None:
        public = [each for each in vars(module) if not each.startswith("_")]
        raise unknown_name(f"function of {module_name}", attribute, public)
    if not callable(factory):
        raise UsageError(f"import:{name} is a {type(factory).__name__}, not a function")
    return factory
