"""Locations: the texts by which users and manifests name places, parsed.

A location is a path or a URL. What depends on which it is lies here: whose word is enough to go
there, what it is from another folder, and what of it may be printed.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

_SEPARATOR = "://"
_HOSTLESS = ("file", "local", "memory")
"""Schemes that have no host: any place of the same scheme is on the same machine."""

_LOCAL = ("file", "local")
"""Schemes of files on this machine."""

_USER = re.compile(r"(://)[^/@\s]*@")
_QUERY = re.compile(r"(https?://[^?#\s'\"]*)[?#][^\s'\"]*")


@dataclass(frozen=True)
class LocalPath:
    """A path on this machine, or on a disk that it shares."""

    text: str

    def absolute(self) -> str:
        """Return a text that means the same from every folder."""
        return str(Path(self.text).absolute())

    @property
    def is_in_this_process(self) -> bool:
        """Whether the place is this process's memory, which no other one reaches."""
        return False

    def places_from(self, folder: str) -> tuple[str, ...]:
        """Return what a store in a folder writes down to find this place again.

        That is the way from there, and the place on this machine.
        """
        found = Path(self.text).resolve()
        if is_url(folder):
            return (str(found),)
        # A store that is a link to be, or one already, lies beside what it is named beside.
        start = Path(folder).absolute().parent.resolve() / Path(folder).name
        return os.path.relpath(found, start), str(found)

    def real(self) -> Path:
        """Return the path that it leads to, links followed: the same, however it is reached."""
        return Path(os.path.realpath(self.text))

    def joined(self, place: str) -> str | None:
        """Return a place as seen from here, where a manifest's word is enough to look there.

        A store on this disk sends nobody to a URL.

        >>> LocalPath("/bank/v.zarr").joined("../raw.zarr")
        '/bank/raw.zarr'
        >>> LocalPath("/bank/v.zarr").joined("s3://bucket/raw.zarr") is None
        True
        """
        if is_url(place):
            return None
        try:
            return os.path.realpath(os.path.join(self.text, place))
        except ValueError:  # A name that no file can have.
            return None

    def beside(self, name: str) -> tuple[str, ...]:
        """Return the places of a name in the same folder; what is linked lies in two."""
        other = self.joined(posixpath.join("..", name))
        linked = os.path.join(os.path.dirname(os.path.abspath(self.text)), name)
        return (linked,) if other is None else (other, linked)


@dataclass(frozen=True)
class Url:
    """A URL."""

    text: str

    @property
    def scheme(self) -> str:
        """What comes before `://`."""
        return self.text.partition(_SEPARATOR)[0]

    def absolute(self) -> str:
        """Return the URL."""
        return self.text

    def real(self) -> Path | None:
        """Return the path on this machine that it is another spelling of, None where there is none.

        >>> Url("s3://bucket/raw.zarr").real() is None
        True
        """
        if self.scheme not in _LOCAL:
            return None
        return LocalPath(self.text.partition(_SEPARATOR)[2]).real()

    @property
    def is_in_this_process(self) -> bool:
        """Whether the place is this process's memory, which no other one reaches."""
        return f"memory{_SEPARATOR}" in self.text

    def places_from(self, folder: str) -> tuple[str, ...]:
        """Return what a store in a folder writes down to find this place again: the URL.

        A password in it is left out: who reads the store is not meant to have it.
        """
        return (without_secrets(self.text),)

    def joined(self, place: str) -> str | None:
        """Return a place as seen from here, where a manifest's word is enough to look there.

        That is so on the same host alone.

        >>> Url("s3://bucket/a/v.zarr").joined("../../raw.zarr")
        's3://bucket/raw.zarr'
        >>> Url("s3://bucket/a/v.zarr").joined("s3://other/raw.zarr") is None
        True
        """
        # An absolute path of the machine that made a store means nothing behind a URL.
        if place.startswith("/"):
            return None
        scheme, _, path = self.text.partition(_SEPARATOR)
        if not is_url(place):
            place = f"{scheme}{_SEPARATOR}{posixpath.normpath(posixpath.join(path, place))}"
        host = "" if scheme in _HOSTLESS else f"{path.partition('/')[0]}/"
        return place if place.startswith(f"{scheme}{_SEPARATOR}{host}") else None

    def beside(self, name: str) -> tuple[str, ...]:
        """Return the places of a name in the same folder: one."""
        other = self.joined(posixpath.join("..", name))
        return () if other is None else (other,)


Location = LocalPath | Url


def parse_location(text: str | Path) -> Location:
    """Parse the text of a location.

    >>> parse_location("s3://bucket/raw.zarr")
    Url(text='s3://bucket/raw.zarr')
    >>> parse_location(Path("raw.zarr"))
    LocalPath(text='raw.zarr')
    """
    return Url(str(text)) if is_url(str(text)) else LocalPath(str(text))


def is_url(text: str) -> bool:
    """Say whether a text is a URL; all else is a path.

    >>> is_url("s3://bucket/raw.zarr"), is_url("s3:/raw.zarr")
    (True, False)
    """
    return _SEPARATOR in text


def without_secrets(text: str) -> str:
    """Return a text whose URLs name no user, password or token.

    >>> without_secrets("https://me:secret@host/raw.zarr?token=abc refuses")
    'https://host/raw.zarr refuses'
    """
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))
