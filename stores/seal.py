"""Sealing: the tables and hashes that make any later change to a store evident.

`crc/ARRAY` binds each chunk to its place. `digest` covers these tables, each array's metadata and
the identity fields of the manifest: it names the work. `seal` covers the whole manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import chunk_parts, read_chunk
from logitbank.stores.files import Files
from logitbank.stores.layout import GROUP_DOCUMENT, ArraySpec, crc_arrays
from logitbank.stores.manifest import Manifest, canonical_json

CrcTables = dict[str, NDArray[np.uint32]]


def digest_of(manifest: Manifest, arrays: dict[str, ArraySpec], tables: CrcTables) -> str:
    """Return a store's digest: sha256 hex over chunks' CRCs, arrays' metadata and identity."""
    lines = sorted(
        f"{spec.chunk_key(index)} {int(tables[name][index]):08x}"
        for name, spec in arrays.items()
        for index in spec.indices()
    )
    hasher = hashlib.sha256("\n".join(lines).encode())
    for name in sorted(arrays):
        hasher.update(b"\n" + name.encode() + b" " + canonical_json(arrays[name].document()))
    hasher.update(b"\n" + canonical_json(manifest.identity()))
    return hasher.hexdigest()


def document_bytes(document: dict[str, Any]) -> bytes:
    """Serialise a metadata document to the bytes of its file."""
    return json.dumps(document, indent=2).encode()


def root_document(manifest: Manifest) -> dict[str, Any]:
    """Return the metadata document of the root group, with the manifest as its attributes."""
    return {**GROUP_DOCUMENT, "attributes": manifest.to_attributes()}


def crc_group_document(digest: str) -> dict[str, Any]:
    """Return the metadata document of `crc/`, whose copy of the digest can mend a lost manifest."""
    return {**GROUP_DOCUMENT, "attributes": {"digest": digest}}


def unfinished_group_document(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata document of `unfinished/`, which exists until the store is sealed.

    If the manifest is lost before there are tables, it tells which work the chunks belong to.
    """
    return {**GROUP_DOCUMENT, "attributes": {"identity": identity}}


def write_tables(files: Files, arrays: dict[str, ArraySpec], tables: CrcTables) -> None:
    """Write `crc/ARRAY` for each array."""
    contents: dict[str, Sequence[Any]] = {}
    for name, spec in crc_arrays(arrays).items():
        contents[spec.document_key] = [document_bytes(spec.document())]
        contents[spec.chunk_key((0,) * len(spec.shape))] = chunk_parts(spec, tables[name])
    files.put_all(contents)


def read_table(files: Files, spec: ArraySpec) -> NDArray[np.uint32]:
    """Read one array's table of CRCs.

    Raises:
        ChunkError: the table is missing or damaged.
    """
    return read_chunk(files, spec, (0,) * len(spec.shape), None)
