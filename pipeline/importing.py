"""Finding a user's own function by name, for `import:package.module:factory` specs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logitbank.stores.errors import UsageError, unknown_name
from logitbank.stores.importing import import_module


def import_factory(name: str) -> Callable[..., Any]:
    """Find `package.module:factory`, in the environment or in the current folder.

    Raises:
        UsageError: the name has another form, or there is no such module or function.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"import:{name} is not of the form import:package.module:factory")
    module = import_module(module_name, f"import:{name}")
    factory = getattr(module, attribute, None)
    if factory is None:
        public = [each for each in vars(module) if not each.startswith("_")]
        raise unknown_name(f"function of {module_name}", attribute, public)
    if not callable(factory):
        raise UsageError(f"import:{name} is a {type(factory).__name__}, not a function")
    return factory
