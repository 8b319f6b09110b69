"""Locations: paths and URLs as users and manifests write them, parsed.

Everything that depends on which of the two a location is lies here: how it resolves from another
one, whether a manifest may lead there, and what of it may be printed.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

_SEPARATOR = "://"
_HOSTLESS = ("file", "local", "memory")
"""Schemes without a host: any location of the same scheme is on the same machine."""

_LOCAL = ("file", "local")
"""Schemes for files on this machine."""

_USER = re.compile(r"(://)[^/@\s]*@")
_QUERY = re.compile(r"(https?://[^?#\s'\"]*)[?#][^\s'\"]*")


@dataclass(frozen=True)
class LocalPath:
    """A path on a local or shared disk."""

    text: str

    def absolute(self) -> str:
        """Return the absolute path."""
        return str(Path(self.text).absolute())

    @property
    def is_in_this_process(self) -> bool:
        """Whether it is this process's memory, which no other process can read."""
        return False

    def places_from(self, folder: str) -> tuple[str, ...]:
        """Return what a store at `folder` records to find this location again.

        That is the path relative to the folder, then the absolute one.
        """
        found = Path(self.text).resolve()
        if is_url(folder):
            return (str(found),)
        # If the store's folder is a link, its siblings are those of the link.
        start = Path(folder).absolute().parent.resolve() / Path(folder).name
        return os.path.relpath(found, start), str(found)

    def real(self) -> Path:
        """Return the path with links resolved: the same, however it is reached."""
        return Path(os.path.realpath(self.text))

    def joined(self, place: str) -> str | None:
        """Resolve a location that a manifest here names, None if it may not lead there.

        A store on a disk does not lead to a URL.

        >>> LocalPath("/bank/v.zarr").joined("../raw.zarr")
        '/bank/raw.zarr'
        >>> LocalPath("/bank/v.zarr").joined("s3://bucket/raw.zarr") is None
        True
        """
        if is_url(place):
            return None
        try:
            return os.path.realpath(os.path.join(self.text, place))
        except ValueError:  # Not a possible file name.
            return None

    def beside(self, name: str) -> tuple[str, ...]:
        """Return the locations of a sibling of that name: two if this path is a link."""
        other = self.joined(posixpath.join("..", name))
        linked = os.path.join(os.path.dirname(os.path.abspath(self.text)), name)
        return (linked,) if other is None else (other, linked)


@dataclass(frozen=True)
class Url:
    """A URL."""

    text: str

    @property
    def scheme(self) -> str:
        """The part before `://`."""
        return self.text.partition(_SEPARATOR)[0]

    def absolute(self) -> str:
        """Return the URL."""
        return self.text

    def real(self) -> Path | None:
        """Return the path on this machine that the URL stands for, None if it is not local.

        >>> Url("s3://bucket/raw.zarr").real() is None
        True
        """
        if self.scheme not in _LOCAL:
            return None
        return LocalPath(self.text.partition(_SEPARATOR)[2]).real()

    @property
    def is_in_this_process(self) -> bool:
        """Whether it is this process's memory, which no other process can read."""
        return f"memory{_SEPARATOR}" in self.text

    def places_from(self, folder: str) -> tuple[str, ...]:
        """Return what a store at `folder` records to find this location again: the URL.

        A password in it is left out, since readers of the store are not meant to have it.
        """
        return (without_secrets(self.text),)

    def joined(self, place: str) -> str | None:
        """Resolve a location that a manifest here names, None if it may not lead there.

        A store behind a URL only leads to the same host.

        >>> Url("s3://bucket/a/v.zarr").joined("../../raw.zarr")
        's3://bucket/raw.zarr'
        >>> Url("s3://bucket/a/v.zarr").joined("s3://other/raw.zarr") is None
        True
        """
        # An absolute path on the machine that made the store means nothing behind a URL.
        if place.startswith("/"):
            return None
        scheme, _, path = self.text.partition(_SEPARATOR)
        if not is_url(place):
            place = f"{scheme}{_SEPARATOR}{posixpath.normpath(posixpath.join(path, place))}"
        host = "" if scheme in _HOSTLESS else f"{path.partition('/')[0]}/"
        return place if place.startswith(f"{scheme}{_SEPARATOR}{host}") else None

    def beside(self, name: str) -> tuple[str, ...]:
        """Return the location of a sibling of that name."""
        other = self.joined(posixpath.join("..", name))
        return () if other is None else (other,)


Location = LocalPath | Url


def parse_location(text: str | Path) -> Location:
    """Parse a path or URL.

    >>> parse_location("s3://bucket/raw.zarr")
    Url(text='s3://bucket/raw.zarr')
    >>> parse_location(Path("raw.zarr"))
    LocalPath(text='raw.zarr')
    """
    return Url(str(text)) if is_url(str(text)) else LocalPath(str(text))


def is_url(text: str) -> bool:
    """Return whether a text is a URL; anything else is a path.

    >>> is_url("s3://bucket/raw.zarr"), is_url("s3:/raw.zarr")
    (True, False)
    """
    return _SEPARATOR in text


def without_secrets(text: str) -> str:
    """Return a text with users, passwords and tokens removed from its URLs.

    >>> without_secrets("https://me:secret@host/raw.zarr?token=abc refuses")
    'https://host/raw.zarr refuses'
    """
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))
