"""Settings files in YAML: a mapping of names to values."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from logitbank.pipeline.plain_yaml import parse_yaml
from logitbank.stores.errors import LogitbankError, UsageError

MAX_BYTES = 1_000_000
"""More than any settings need: a larger file is something else, and is not read."""


def read_mapping(path: Path, *, title: str, names: str = "setting names") -> dict[str, Any]:
    """Read a file that maps names to values.

    Args:
        path: the file.
        title: what error messages call it, such as `--config settings.yaml`.
        names: what they call the names.

    Raises:
        UsageError: it can't be read, is not YAML, or is not a mapping.
    """
    return _mapping(_parsed(_text(path, title), title), title, names)


def read_as_written(path: Path, *, title: str) -> dict[str, Any]:
    """Read a file that maps names to values, which stay texts as they are written in the file.

    Returns:
        For each name a text, None if it has no value, or a list or mapping of these.

    Raises:
        UsageError: as `read_mapping`.
    """
    text = _text(path, title)
    _parsed(text, title)  # It bounds nesting and aliases, so that a plain load is safe.
    return _mapping(yaml.load(text, Loader=_AsWrittenLoader), title, "setting names")


class _AsWrittenLoader(yaml.SafeLoader):
    """Keeps values as written: in YAML 1.1 `no` is false, 010 is 8, and 12:30 is 750."""


def _as_written(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    assert isinstance(node, yaml.ScalarNode), "its tag was found by its text"
    return node.value


for _kind in ("bool", "int", "float", "timestamp"):
    _AsWrittenLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _as_written)


def _text(path: Path, title: str) -> str:
    """Read a regular file of at most `MAX_BYTES`; a pipe or a device might never end."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{title} is not a regular file")
        if found.st_size > MAX_BYTES:
            raise UsageError(
                f"{title} has {found.st_size:,} bytes, too many for settings: {MAX_BYTES:,} at most"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{title} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{title} is not YAML: {error}") from None


def _parsed(text: str, title: str) -> Any:
    try:
        return parse_yaml(text, title)
    except LogitbankError as error:
        raise UsageError(str(error)) from None


def _mapping(found: Any, title: str, names: str) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise UsageError(f"{title} must map {names} to values")
    return {str(name): value for name, value in found.items()}
