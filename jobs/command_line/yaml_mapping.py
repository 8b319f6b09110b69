"""Files of settings in YAML: a mapping of names to values, or one clear line."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from logitbank.pipeline.plain_yaml import parse_yaml
from logitbank.stores.errors import LogitbankError, UsageError

MOST_BYTES = 1_000_000
"""Far more than any settings: a file of this size is something else, and is not read."""


def read_mapping(path: Path, *, title: str, names: str = "setting names") -> dict[str, Any]:
    """Read a file that maps names to values.

    Args:
        path: the file.
        title: what error messages call it, such as `--config settings.yaml`.
        names: what they call the names.

    Raises:
        UsageError: it can't be read, is not YAML, or holds something else than a mapping.
    """
    return _mapping(_parsed(_text(path, title), title), title, names)


def read_words(path: Path, *, title: str) -> dict[str, Any]:
    """Read a file that maps names to words, as they could be typed: a number stays as written.

    Returns:
        For each name a text, None where nothing stands there, or a list or mapping of such.

    Raises:
        UsageError: as `read_mapping`.
    """
    text = _text(path, title)
    _parsed(text, title)  # Within its bounds the text can be read again without fear.
    return _mapping(yaml.load(text, Loader=_WordLoader), title, "setting names")


class _WordLoader(yaml.SafeLoader):
    """Takes values as they are written: in YAML 1.1 `no` is false, 010 is 8, and 12:30 is 750."""


def _as_written(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    assert isinstance(node, yaml.ScalarNode), "its tag was found by its text"
    return node.value


for _kind in ("bool", "int", "float", "timestamp"):
    _WordLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _as_written)


def _text(path: Path, title: str) -> str:
    """Read a regular file of a size that settings have; others might never end."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{title} is not a file that can be read whole")
        if found.st_size > MOST_BYTES:
            raise UsageError(f"{title} has {found.st_size:,} bytes: settings never have")
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
