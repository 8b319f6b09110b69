"""Paths as the user types them: inputs may be URLs, outputs are local folders.

The functions are argparse types, used for flags and for settings in a file. All of them expand `~`
and refuse an invalid path before any work starts.
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
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
MAX_OUT_NAME_BYTES = MAX_NAME_BYTES - len(f"..{'0' * 32}{PARTIAL}")
"""Leaves room for the name of the temporary folder that is made beside a store."""

MAX_OUT_PATH_BYTES = MAX_PATH_BYTES - 160
"""Leaves room for any path within a store or a run."""


def location(text: str) -> str:
    """Parse the path or URL of an input; `~` in a path is expanded.

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
    """Parse the path of a local output file or folder; `~` is expanded."""
    _require_text(text)
    if text.startswith("file:/"):
        path = "/" + text.removeprefix("file:").lstrip("/")
        raise argparse.ArgumentTypeError(f"{text!r} is a URL: write it as a path, {path}")
    if is_url(text) or SCHEME.match(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is a URL, and so far only local folders are written: name a local path, and "
            "copy the result when it is complete"
        )
    return _expanded(text)


def out_path(text: str) -> str:
    """Parse the path of what a job makes or resumes: a store, a run, a folder of results.

    Raises:
        ArgumentTypeError: it is not a local path, or its name or length rules it out.
        UsageError: it lies within a store.
        StoreError: its parent folder can't be written.
    """
    path = Path(local_path(text))
    if path.name in ("", ".."):
        raise argparse.ArgumentTypeError(
            f"{text!r} is an existing folder: name a new one in it, such as "
            f"{os.path.join(path, 'NAME')}"
        )
    whole = path.absolute()
    sizes = [len(os.fsencode(part)) for part in whole.parts]
    if max(sizes) > MAX_NAME_BYTES or sizes[-1] > MAX_OUT_NAME_BYTES:
        raise argparse.ArgumentTypeError(
            f"a name of {max(sizes)} bytes is too long: {MAX_OUT_NAME_BYTES} at most"
        )
    if len(os.fsencode(whole)) > MAX_OUT_PATH_BYTES:
        raise argparse.ArgumentTypeError(
            f"a path of {len(os.fsencode(whole))} bytes is too long: {MAX_OUT_PATH_BYTES} at most"
        )
    require_outside_stores(whole, itself=False)
    if not os.path.lexists(whole):
        require_writable_place(whole)
    # The path may be passed on to another job, which must not expand a folder named `~x` again.
    return str(whole if str(path).startswith("~") else path)


def shared_location(text: str) -> str:
    """Return a store's location in a form that workers can use: an absolute path or a URL.

    >>> shared_location("s3://bucket/raw.zarr")
    's3://bucket/raw.zarr'

    Raises:
        UsageError: it lies in this process's memory.
    """
    location = parse_location(text)
    if location.is_in_this_process:
        raise UsageError(
            f"{text} lies in the memory of this process, where no worker can read it: leave "
            "--cluster out, or name a store that the workers can read"
        )
    return location.absolute()


def require_writable_place(path: Path) -> None:
    """Check that a file or folder that does not exist yet can be made, with its parents.

    Raises:
        StoreError: a parent is not a folder, or the closest existing one can't be written.
    """
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise StoreError(f"{path} can't be made: {folder} is not a folder")
    try:
        # Checking permissions alone would miss read-only and virtual file systems.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"{path} can't be made: {folder} can't be written: {error.strerror}"
        ) from None


def _require_text(text: str, controls: str | None = None) -> None:
    """Refuse an empty text, and one with control characters: any, or only those in `controls`."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is empty: a path is required")
    found = [
        letter
        for letter in text
        if (unicodedata.category(letter) == "Cc" if controls is None else letter in controls)
    ]
    if found:
        raise argparse.ArgumentTypeError(
            f"{text!r} contains the control character {found[0]!r}: name a path without it"
        )


def _expanded(text: str) -> str:
    expanded = os.path.expanduser(text)
    user, slash, rest = text.partition("/")
    if text.startswith("~") and expanded == text:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {user} is not a home folder here: write the full path, or ./{user}{slash}"
            f"{rest} for a file of that name"
        )
    return expanded
