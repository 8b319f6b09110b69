"""Paths as they are typed: what is read may lie behind a URL, what is written is a local folder.

The functions are argparse types, for flags and for the settings of a file alike: `~` is a home
folder in all of them, and what can't be meant is refused before any work.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import unicodedata
from pathlib import Path
from urllib.parse import urlsplit

from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.files import PARTIAL, is_url, parse_location
from logitbank.stores.housekeeping.outside_stores import require_outside_stores

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 4095
BESIDE = len(f"..{'0' * 32}{PARTIAL}")
"""The bytes that the name of a temporary folder beside a store has more than the store's."""

BELOW = 160
"""More than the bytes of any path within a store or a run."""


def location(text: str) -> str:
    """Parse the path or URL of something to be read; `~` in a path is expanded.

    >>> location("s3://bucket/raw.zarr")
    's3://bucket/raw.zarr'
    """
    _require_text(text, controls="\0")
    if not is_url(text):
        return _expanded(text)
    try:
        urlsplit(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL: {error}") from None
    return text


def local_path(text: str) -> str:
    """Parse a path that is written to, or a folder to write in; `~` is expanded."""
    _require_text(text)
    if text.startswith("file:/"):
        path = "/" + text.removeprefix("file:").lstrip("/")
        raise argparse.ArgumentTypeError(f"{text!r} is a URL: write it as a path, {path}")
    if is_url(text) or SCHEME.match(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is a URL, and so far only local folders are written: name a local path, and "
            "copy what lies there when it is complete"
        )
    return _expanded(text)


def out_path(text: str) -> str:
    """Parse the path of what a job makes, or goes on with: a store, a run, a folder of results.

    Raises:
        ArgumentTypeError: it is not a local path, or not a name for something new.
        UsageError: it lies within a store.
        StoreError: what is to hold it can't be written.
    """
    path = Path(local_path(text))
    if path.name in ("", ".."):
        raise argparse.ArgumentTypeError(
            f"{text!r} is a folder that is there already: name a new one in it, as "
            f"{os.path.join(path, 'NAME')}"
        )
    whole = path.absolute()
    sizes = [len(os.fsencode(part)) for part in whole.parts]
    if max(sizes) > MOST_NAME_BYTES or sizes[-1] > MOST_NAME_BYTES - BESIDE:
        raise argparse.ArgumentTypeError(
            f"a name of {max(sizes)} bytes is too long: {MOST_NAME_BYTES - BESIDE} at most"
        )
    if len(os.fsencode(whole)) > MOST_PATH_BYTES - BELOW:
        raise argparse.ArgumentTypeError(
            f"a path of {len(os.fsencode(whole))} bytes is too long: {MOST_PATH_BYTES - BELOW} at "
            "most"
        )
    require_outside_stores(whole, itself=False)
    if not os.path.lexists(whole):
        require_writable_place(whole)
    # A folder that is called `~x` must not be expanded by the job that it is passed on to.
    return str(whole if str(path).startswith("~") else path)


def shared_location(text: str) -> str:
    """Return a store's location as workers know it: a whole path, or a URL as it is.

    >>> shared_location("s3://bucket/raw.zarr")
    's3://bucket/raw.zarr'

    Raises:
        UsageError: it lies in this process's memory.
    """
    location = parse_location(text)
    if location.is_in_this_process:
        raise UsageError(
            f"{text} lies in the memory of this process, where no worker can read it: leave "
            "--cluster out, or give a store that the workers can read"
        )
    return location.absolute()


def require_writable_place(path: Path) -> None:
    """Check that a file or folder that is not there yet can be made, with its parents.

    Raises:
        StoreError: a parent is not a folder, or the first that is there takes no new file.
    """
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise StoreError(f"{path} can't be made: {folder} is not a folder")
    try:
        # Asking for permissions alone would miss file systems that take no files.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"{path} can't be made: {folder} can't be written: {error.strerror}"
        ) from None


def _require_text(text: str, controls: str | None = None) -> None:
    """Refuse an empty text, and one with controls: all of them, or these."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names nothing: a path is needed")
    acting = [
        letter
        for letter in text
        if (unicodedata.category(letter) == "Cc" if controls is None else letter in controls)
    ]
    if acting:
        raise argparse.ArgumentTypeError(
            f"{text!r} holds the control character {acting[0]!r}: name a path without"
        )


def _expanded(text: str) -> str:
    expanded = os.path.expanduser(text)
    user, slash, rest = text.partition("/")
    if text.startswith("~") and expanded == text:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {user} is not a home folder here: write the whole path, or ./{user}{slash}"
            f"{rest} for what is called so"
        )
    return expanded
