"""Telling, from what is on disk, whether a folder is the store a job wants to go on with.

A store that was complete leaves three witnesses: the manifest with its digest, the tables in
`crc/`, and a copy of the digest beside them. While two of them agree, the third can be mended.
"""

from __future__ import annotations

from dataclasses import dataclass

from logitbank.stores.chunks import ChunkError
from logitbank.stores.documents import (
    CRC_GROUP_KEY,
    DamagedDocumentError,
    check_array_document,
    read_document,
    read_manifest,
)
from logitbank.stores.errors import StoreError
from logitbank.stores.files import LocalFiles
from logitbank.stores.layout import crc_arrays, store_arrays
from logitbank.stores.manifest import Manifest, identity_differences
from logitbank.stores.seal import CrcTables, crc_group_document, digest_of, read_table


@dataclass(frozen=True)
class Recognised:
    """A folder that holds the wanted store, finished or not.

    `tables` are the CRCs that bind chunks to their places, for the arrays whose tables can be
    trusted; empty for a store that was never sealed. `digest` is the one the store was sealed with,
    where it is known and the tables alone can't prove it again. `intact` says that manifest and
    tables are as they were sealed.
    """

    manifest: Manifest
    tables: CrcTables
    digest: str | None
    intact: bool


def recognise(files: LocalFiles, wanted: Manifest) -> Recognised:
    """Decide whether a folder holds the wanted work.

    Raises:
        StoreError: it is no store, or one of another identity (every differing field is named), or
            so damaged that what it holds can't be proved.
    """
    # First the manifest: another process may be sealing, which writes it after the tables.
    found = _manifest_there(files)
    tables, tables_whole = _trusted_tables(files, wanted)
    copy = _digest_copy(files)
    proven = digest_of(wanted, store_arrays(wanted), tables) if tables_whole else None
    if isinstance(found, StoreError):
        if proven is None or proven != copy:
            raise found
        return Recognised(wanted.unsealed(), tables, None, intact=False)
    differences = identity_differences(found, wanted)
    sealed_as_it_is = found.seal == found.seal_value()
    if differences:
        if not sealed_as_it_is and found.status == "complete" and proven in (found.digest, copy):
            return Recognised(wanted.unsealed(), tables, None, intact=False)
        raise StoreError(
            f"{files.where} holds other work: {'; '.join(differences)}. "
            "Name another --out, or remove the folder"
        )
    if found.status != "complete":
        return Recognised(found, {}, None, intact=False)
    if tables_whole and proven in (found.digest, copy):
        agrees = sealed_as_it_is and proven == found.digest == copy and _described(files, wanted)
        kept = found if sealed_as_it_is else wanted.unsealed()
        return Recognised(kept, tables, None, intact=agrees)
    return Recognised(
        found if sealed_as_it_is else wanted.unsealed(),
        {} if tables_whole else tables,
        found.digest,
        intact=False,
    )


def _manifest_there(files: LocalFiles) -> Manifest | StoreError:
    try:
        return read_manifest(files)
    except StoreError as error:
        return error


def _trusted_tables(files: LocalFiles, wanted: Manifest) -> tuple[CrcTables, bool]:
    """Read the tables that are not damaged; say whether that is all of them."""
    tables: CrcTables = {}
    specs = crc_arrays(store_arrays(wanted))
    for name, spec in specs.items():
        try:
            tables[name] = read_table(files, spec)
        except ChunkError:
            continue
    return tables, len(tables) == len(specs)


def _described(files: LocalFiles, wanted: Manifest) -> bool:
    """Say whether the tables' own metadata is as it should be."""
    try:
        for spec in crc_arrays(store_arrays(wanted)).values():
            check_array_document(files, spec)
    except DamagedDocumentError:
        return False
    return True


def _digest_copy(files: LocalFiles) -> str | None:
    try:
        document = read_document(files, CRC_GROUP_KEY)
    except DamagedDocumentError:
        return None
    attributes = document.get("attributes")
    digest = attributes.get("digest") if isinstance(attributes, dict) else None
    whole = isinstance(digest, str) and document == crc_group_document(digest)
    return digest if whole else None
