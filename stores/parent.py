"""Finding the parent of a virtual store: where the caller says, else where it was, or beside it.

A place that a manifest names is only looked at: on this disk for a store on this disk, on its own
host for a store behind a URL. All else takes the caller's word.
"""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path

from logitbank.stores.documents import ROOT_KEY, read_manifest
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.files import Files, files_at
from logitbank.stores.manifest import Manifest

_HOSTLESS = ("file", "local", "memory")


def parent_of(files: Files, manifest: Manifest, given: str | Path | None = None) -> str:
    """Find a virtual store's parent.

    Args:
        files: the virtual store's.
        manifest: its manifest.
        given: the parent's path or URL; a relative path is looked for from the current folder, then
            beside the store. None looks where the parent was, and for its name beside the store.

    Returns:
        The path or URL of the raw store that has the parent's digest.

    Raises:
        StoreError: it is nowhere, what is there has another digest, or its place is a URL that only
            the caller may name.
    """
    assert manifest.correction is not None, "check_virtual requires it"
    wanted, where = manifest.correction.parent_digest, files.where
    if given is not None:
        return _given_parent(where, str(given), wanted)
    recorded = manifest.provenance.parent_places
    places, refusals = _candidates(where, recorded), []
    for place in places:
        problem = _problem(place, wanted)
        if problem is None:
            return place
        if problem:
            refusals.append(problem)
    refusals += [
        f"{place} is not fetched unless you name it (--parent {place})"
        for place in recorded
        if "://" in place and place not in places
    ]
    nothing = f"nothing is at {' or '.join(places)}" if places else "its manifest names no place"
    raise StoreError(
        f"{where} is virtual and its parent can't be found: {'; '.join(refusals) or nothing}: put "
        f"the parent back, or beside {where}, or say where it is by --parent PATH"
    )


def require_no_parent(files: Files, manifest: Manifest, given: str | Path | None) -> None:
    """Refuse a parent that the caller names for a store that has its own rows; UsageError."""
    if given is not None:
        raise UsageError(
            f"--parent {given}: {files.where} is {manifest.kind} and has rows of its own; the "
            "parent of a virtual store can be named"
        )


def _given_parent(where: str, given: str, wanted: str) -> str:
    """Find the parent where the caller says that it is."""
    places = [given]
    if "://" not in given:
        named = os.path.expanduser(given)
        places = [str(Path(named).absolute()), *_beside(where, named)]
    problems = []
    for place in dict.fromkeys(places):
        problem = _problem(place, wanted)
        if problem is None:
            return place
        problems.append(problem)
    cause = "; ".join(filter(None, problems)) or f"nothing is at {' or '.join(places)}"
    raise StoreError(f"{given} is not the parent of {where}: {cause}")


def _problem(place: str, wanted: str) -> str | None:
    """Say what keeps a place from being the parent's: empty for nothing there, None for nothing.

    A parent is a raw store: no virtual one leads to another, or back to itself.
    """
    try:
        if "://" not in place:
            _require_plain(place)
        found = read_manifest(files_at(place))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""
    except (OSError, StoreError) as error:
        return str(error)
    if found.digest != wanted:
        return (
            f"{place} changed, or is another store (digest {(found.digest or 'none')[:12]}, "
            f"expected {wanted[:12]})"
        )
    if found.kind != "raw":
        return f"{place} is {found.kind} itself, and a virtual store reads a raw one"
    return None


def _require_plain(place: str) -> None:
    """Require a folder with a manifest that is a file: opening a pipe would wait for ever.

    Raises:
        StoreError: it is something else.
        OSError: there is nothing, or it can't be looked at.
    """
    if not stat.S_ISDIR(os.stat(place).st_mode):
        raise StoreError(f"{place} is no folder")
    document = os.path.join(place, ROOT_KEY)
    if os.path.exists(document) and not os.path.isfile(document):
        raise StoreError(f"{place} is not a store: its {ROOT_KEY} is no file")


def _candidates(where: str, places: tuple[str, ...]) -> list[str]:
    """List where a parent may be, in order: the places, then its name beside the store.

    >>> _candidates("s3://bucket/a/v.zarr", ("../../raw.zarr",))
    ['s3://bucket/raw.zarr', 's3://bucket/a/raw.zarr']
    >>> _candidates("s3://bucket/a/v.zarr", ("s3://other/raw.zarr", "http://host/raw.zarr"))
    ['s3://bucket/a/raw.zarr']
    """
    found = [each for place in places if (each := _resolved(where, place)) is not None]
    for place in places[-1:]:
        found += _beside(where, posixpath.basename(place.rstrip("/")))
    return list(dict.fromkeys(found))


def _beside(where: str, name: str) -> list[str]:
    """Give the places of a name in the store's folder; a linked store lies in two."""
    beside = [_resolved(where, posixpath.join("..", name))]
    if "://" not in where:
        beside.append(os.path.join(os.path.dirname(os.path.abspath(where)), name))
    return [place for place in beside if place is not None]


def _resolved(where: str, place: str) -> str | None:
    """Give a place as seen from a store, None where a manifest's word is not enough to go there."""
    if "://" not in where:
        return None if "://" in place else _real_path(os.path.join(where, place))
    # An absolute path of the machine that made a store means nothing behind a URL.
    if place.startswith("/"):
        return None
    scheme, _, path = where.partition("://")
    if "://" not in place:
        place = f"{scheme}://{posixpath.normpath(posixpath.join(path, place))}"
    host = "" if scheme in _HOSTLESS else f"{path.partition('/')[0]}/"
    return place if place.startswith(f"{scheme}://{host}") else None


def _real_path(path: str) -> str | None:
    try:
        return os.path.realpath(path)
    except ValueError:  # A name that no file can have.
        return None
