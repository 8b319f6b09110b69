"""Finding the parent of a virtual store: where the caller says, else where it was, or beside it.

A manifest only leads to the same disk for a store on a disk, and to the same host for a store
behind a URL. Anywhere else, the caller has to name the parent.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

from logitbank.stores.documents import read_manifest
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.files import (
    AbsentError,
    Files,
    files_at,
    is_url,
    parse_location,
    without_secrets,
)
from logitbank.stores.manifest import Manifest


@dataclass(frozen=True)
class OpenOptions:
    """How a store was opened, so that a worker can open it in the same way.

    `parent` is the location of a virtual store's parent, None to search for it.
    `allow_corrections` are the names of corrections that the store's manifest may import.
    """

    parent: str | None = None
    allow_corrections: tuple[str, ...] = ()


def parent_of(files: Files, manifest: Manifest, given: str | Path | None = None) -> str:
    """Find a virtual store's parent.

    Args:
        files: the virtual store's.
        manifest: its manifest.
        given: the parent's path or URL; a relative path is resolved from the current folder, then
            from the store's parent folder. None searches where the parent was when the store was
            made, then beside the store.

    Returns:
        The path or URL of the raw store that has the parent's digest.

    Raises:
        StoreError: it is not found, has another digest, or is at a URL that only the caller may
            name.
    """
    assert manifest.correction is not None, "checked by check_virtual"
    wanted, where = manifest.correction.parent_digest, files.where
    if given is not None:
        return _given_parent(files, str(given), wanted)
    recorded = manifest.provenance.parent_places
    places, refusals = _candidates(files.location, recorded), []
    for place in places:
        problem = _problem(place, wanted)
        if problem is None:
            return place
        if problem:
            refusals.append(problem)
    refusals += [
        f"{place} is not fetched unless you name it (--parent {place})"
        for place in map(without_secrets, recorded)
        if is_url(place) and place not in places
    ]
    tried = " or ".join(map(without_secrets, places))
    nothing = f"nothing is at {tried}" if places else "its manifest names no location"
    raise StoreError(
        f"{where} is virtual and its parent can't be found: {'; '.join(refusals) or nothing}: move "
        f"the parent back, or beside {where}, or name it with --parent PATH"
    )


def require_no_parent(files: Files, manifest: Manifest, given: str | Path | None) -> None:
    """Raise UsageError if the caller names a parent for a store that has its own rows."""
    if given is not None:
        raise UsageError(
            f"--parent {given}: {files.where} is {manifest.kind} and has rows of its own; only a "
            "virtual store has a parent to name"
        )


def _given_parent(files: Files, given: str, wanted: str) -> str:
    """Find the parent where the caller says it is."""
    places = [given]
    if not is_url(given):
        named = os.path.expanduser(given)
        beside = parse_location(files.location).beside(named)
        places = [parse_location(named).absolute(), *beside]
    problems = []
    for place in dict.fromkeys(places):
        problem = _problem(place, wanted)
        if problem is None:
            return place
        problems.append(problem)
    tried = " or ".join(map(without_secrets, places))
    cause = "; ".join(filter(None, problems)) or f"nothing is at {tried}"
    raise StoreError(f"{without_secrets(given)} is not the parent of {files.where}: {cause}")


def _problem(place: str, wanted: str) -> str | None:
    """Return why a location is not the parent's, empty if nothing exists there; None if it is.

    A parent is a raw store: a virtual one never leads to another, or back to itself.
    """
    try:
        files = files_at(place)
        found = read_manifest(files)
    except AbsentError:
        return ""
    except StoreError as error:
        return str(error)
    if found.digest != wanted:
        return (
            f"{files.where} has changed, or is another store (digest "
            f"{(found.digest or 'none')[:12]}, expected {wanted[:12]})"
        )
    if found.kind != "raw":
        return f"{files.where} is {found.kind} itself, and a virtual store reads a raw one"
    return None


def _candidates(location: str, places: tuple[str, ...]) -> list[str]:
    """Return where a parent may be, in order: the recorded places, then beside the store.

    >>> _candidates("s3://bucket/a/v.zarr", ("../../raw.zarr",))
    ['s3://bucket/raw.zarr', 's3://bucket/a/raw.zarr']
    >>> _candidates("s3://bucket/a/v.zarr", ("s3://other/raw.zarr", "http://host/raw.zarr"))
    ['s3://bucket/a/raw.zarr']
    """
    here = parse_location(location)
    found = [each for place in places if (each := here.joined(place)) is not None]
    for place in places[-1:]:
        found += here.beside(posixpath.basename(place.rstrip("/")))
    return list(dict.fromkeys(found))
