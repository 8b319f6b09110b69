"""Metadata documents as they lie in a store: parsing them and holding them against the layout."""

from __future__ import annotations

import json
from typing import Any

from logitbank.stores.errors import StoreError
from logitbank.stores.files import Files
from logitbank.stores.layout import GROUP_DOCUMENT, ArraySpec
from logitbank.stores.manifest import Manifest

ROOT_KEY = "zarr.json"
CRC_GROUP_KEY = "crc/zarr.json"


class DamagedDocumentError(StoreError):
    """A metadata document that is missing, unreadable or not what the layout asks for."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(
            f"{where}: {key} {cause}: run the job that made the store again to mend it"
        )
        self.key, self.cause = key, cause


def read_document(files: Files, key: str) -> dict[str, Any]:
    """Parse a metadata document.

    Raises:
        DamagedDocumentError: it is missing or is not JSON.
    """
    data = files.get(key)
    if data is None:
        raise DamagedDocumentError(files.where, key, "is missing")
    try:
        document = json.loads(data)
    except ValueError:
        raise DamagedDocumentError(files.where, key, "is damaged (it is not JSON)") from None
    if not isinstance(document, dict):
        raise DamagedDocumentError(files.where, key, "is damaged (it is not an object)")
    return document


def read_manifest(files: Files) -> Manifest:
    """Parse the root group's document; what it says is not checked against the seal here.

    Raises:
        StoreError: there is no store, or none that this release reads.
    """
    if files.get(ROOT_KEY) is None:
        raise StoreError(f"{files.where} is not a store: it has no zarr.json")
    document = read_document(files, ROOT_KEY)
    attributes = document.pop("attributes", None)
    manifest = Manifest.from_attributes(attributes, files.where)
    if document != GROUP_DOCUMENT:
        raise DamagedDocumentError(files.where, ROOT_KEY, "is damaged (not a plain Zarr v3 group)")
    return manifest


def check_array_document(files: Files, spec: ArraySpec) -> None:
    """Require the very metadata that the layout gives this array.

    Raises:
        DamagedDocumentError: it is missing, damaged or differs; the first difference is named.
    """
    found, wanted = read_document(files, spec.document_key), spec.document()
    for name in wanted.keys() | found.keys():
        if found.get(name) != wanted.get(name):
            raise DamagedDocumentError(
                files.where,
                spec.document_key,
                f"is damaged or foreign ({name} is {found.get(name)!r}, "
                f"expected {wanted.get(name)!r})",
            )


def check_seal(files: Files, manifest: Manifest) -> None:
    """Require a complete manifest as it was sealed.

    Raises:
        StoreError: the store is incomplete.
        DamagedDocumentError: the manifest was edited.
    """
    if manifest.status != "complete":
        raise StoreError(
            f"{files.where} is incomplete: run the job that makes it again, it goes on where it "
            "stopped"
        )
    if manifest.seal != manifest.seal_value():
        raise DamagedDocumentError(
            files.where, ROOT_KEY, "was edited or damaged (the manifest does not match its seal)"
        )
