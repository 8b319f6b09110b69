"""The metadata documents of a store: parsing them and checking them against the layout."""

from __future__ import annotations

import json
from typing import Any

from logitbank.stores.errors import NotAStoreError, StoreError
from logitbank.stores.files import Files, OddFileError
from logitbank.stores.files.printable import shortened
from logitbank.stores.housekeeping.contents import describe_contents
from logitbank.stores.layout import GROUP_DOCUMENT, ArraySpec
from logitbank.stores.manifest import Manifest

ROOT_KEY = "zarr.json"
CRC_GROUP_KEY = "crc/zarr.json"
UNFINISHED, UNFINISHED_KEY = "unfinished", "unfinished/zarr.json"
"""A group that exists until the store is sealed: its attributes hold a copy of the identity."""
MAX_DOCUMENT_BYTES = 4 * 2**20
"""More than any document of a store takes."""
MAX_DEPTH = 32
"""Deeper than any document of a store is nested."""


class DamagedDocumentError(StoreError):
    """A metadata document that is missing, unreadable or does not match the layout."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(
            f"{where}: {key} {cause}: run the job that made the store again to mend it"
        )
        self.key, self.cause = key, cause


def read_document(files: Files, key: str) -> dict[str, Any]:
    """Read and parse a metadata document.

    Raises:
        DamagedDocumentError: it is missing, not a file, or not JSON.
        FileError: it can't be reached or read.
    """
    document = _document_there(files, key)
    if document is None:
        raise DamagedDocumentError(files.where, key, "is missing")
    return document


def read_manifest(files: Files) -> Manifest:
    """Read and parse the manifest, the root group's document, without checking its seal.

    Raises:
        StoreError: there is no store, or not one that this release reads.
    """
    document = _document_there(files, ROOT_KEY)
    if document is None:
        held = describe_contents(files)
        found = "" if held is None else f", it holds {held}"
        raise NotAStoreError(f"{files.where} is not a store: it has no zarr.json{found}")
    attributes = document.pop("attributes", None)
    manifest = Manifest.from_attributes(attributes, files.where)
    if document != GROUP_DOCUMENT:
        raise DamagedDocumentError(files.where, ROOT_KEY, "is damaged (not a plain Zarr v3 group)")
    return manifest


def _document_there(files: Files, key: str) -> dict[str, Any] | None:
    """Read and parse a metadata document, or return None if there is none.

    Raises:
        DamagedDocumentError: it is not a file, or not JSON.
        FileError: it can't be reached or read.
    """
    try:
        data = files.get(key, MAX_DOCUMENT_BYTES)
    except OddFileError as error:
        raise DamagedDocumentError(files.where, key, error.cause) from None
    if data is None:
        return None
    try:
        document = json.loads(data)
    except ValueError:
        cause = "is damaged (it is not JSON)" if data else "is empty"
        raise DamagedDocumentError(files.where, key, cause) from None
    except RecursionError:
        document = None
    if not isinstance(document, dict) or not _is_shallow(document):
        raise DamagedDocumentError(files.where, key, "is damaged (it is not a metadata document)")
    return document


def _is_shallow(document: dict[str, Any]) -> bool:
    """Return whether a document is nested at most `MAX_DEPTH` deep, so that it can be compared."""
    layer: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in layer]
        layer = [item for items in inner for item in items if isinstance(item, (dict, list))]
    return not layer


def check_array_document(files: Files, spec: ArraySpec) -> None:
    """Check that an array's metadata is exactly what the layout says.

    Raises:
        DamagedDocumentError: it is missing or damaged, or differs; the first difference is named.
        FileError: it can't be reached or read.
    """
    found, wanted = read_document(files, spec.document_key), spec.document()
    for name in wanted.keys() | found.keys():
        if found.get(name) != wanted.get(name):
            raise DamagedDocumentError(
                files.where,
                spec.document_key,
                f"is damaged or foreign ({shortened(name)} is {shortened(found.get(name))}, "
                f"expected {wanted.get(name)!r})",
            )


def check_seal(files: Files, manifest: Manifest) -> None:
    """Check that a manifest is complete and unchanged since it was sealed.

    Raises:
        StoreError: the store is incomplete.
        DamagedDocumentError: the manifest was edited.
    """
    if manifest.status != "complete":
        raise StoreError(
            f"{files.where} is incomplete: run the job that makes it again, it continues where it "
            "stopped"
        )
    if manifest.seal != manifest.seal_value():
        raise DamagedDocumentError(
            files.where, ROOT_KEY, "was edited or damaged (the manifest does not match its seal)"
        )
