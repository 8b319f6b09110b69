"""Files of settings in YAML: a mapping of names to values, or one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from logitbank.stores.errors import UsageError


def read_mapping(path: Path, *, title: str, names: str = "setting names") -> dict[str, Any]:
    """Read a file that maps names to values.

    Args:
        path: the file.
        title: what error messages call it, such as `--config settings.yaml`.
        names: what they call the names.

    Raises:
        UsageError: it can't be read, is no YAML, or holds something else than a mapping.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"{title} can't be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{title} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, Mapping):
        raise UsageError(f"{title} must map {names} to values")
    return {str(name): value for name, value in found.items()}
