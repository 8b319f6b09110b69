"""Finding a user's own module, in the environment or in the current folder."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

from logitbank.stores.errors import UsageError


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
