"""The full check of a store: every document, every chunk, every file that should not be there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from logitbank.stores.chunks import ChunkError, verify_chunk
from logitbank.stores.documents import (
    CRC_GROUP_KEY,
    ROOT_KEY,
    DamagedDocumentError,
    check_array_document,
    check_seal,
    read_document,
    read_manifest,
)
from logitbank.stores.errors import StoreError
from logitbank.stores.files import Files, LocalFiles, files_at
from logitbank.stores.layout import ArraySpec, crc_arrays, store_arrays, store_keys
from logitbank.stores.manifest import Manifest
from logitbank.stores.parent import parent_of, require_no_parent
from logitbank.stores.seal import CrcTables, crc_group_document, digest_of, read_table
from logitbank.stores.virtual import check_virtual

THREADS = 4


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a store: the file's key, and what is wrong."""

    key: str
    cause: str
    remedy: str = "rerun"


def verify_store(
    location: str | Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    parent: str | Path | None = None,
) -> list[Problem]:
    """Check all of a store and list what is wrong, each thing by its key.

    Args:
        location: path or URL; stray files are looked for in a local folder only.
        progress: called with the chunks checked so far and their number.
        parent: where the parent of a virtual store is, if it has moved.

    Returns:
        The problems, none for a good store.

    Raises:
        StoreError: there is no store there, or its manifest can't be read at all.
        UsageError: a parent is named for a store that is not virtual.
    """
    files = files_at(location)
    manifest = read_manifest(files)
    if manifest.kind == "virtual":
        return _virtual_problems(files, manifest, progress, parent)
    require_no_parent(files, manifest, parent)
    arrays = store_arrays(manifest)
    problems = list(_manifest_problems(files, manifest))
    tables, table_problems = _checked_tables(files, arrays)
    problems += table_problems
    problems += _digest_problems(files, manifest, arrays, tables)
    problems += _document_problems(files, arrays)
    problems += _chunk_problems(files, arrays, tables, progress)
    if isinstance(files, LocalFiles):
        problems += _stray_files(files, arrays)
    return problems


def _virtual_problems(
    files: Files,
    manifest: Manifest,
    progress: Callable[[int, int], None],
    named: str | Path | None,
) -> list[Problem]:
    """Check a manifest that stands alone, and all of the parent that it reads."""
    try:
        check_virtual(files, manifest)
        parent = parent_of(files, manifest, named)
    except DamagedDocumentError as error:
        return [Problem(error.key, error.cause)]
    except StoreError as error:
        return [Problem(ROOT_KEY, str(error))]
    problems = [
        Problem(f"{parent}/{problem.key}", problem.cause)
        for problem in verify_store(parent, progress)
    ]
    if isinstance(files, LocalFiles):
        problems += [
            Problem(key, "is no part of a virtual store")
            for key in sorted(files.list_keys())
            if key != ROOT_KEY
        ]
    return problems


def _manifest_problems(files: Files, manifest: Manifest) -> Iterator[Problem]:
    try:
        check_seal(files, manifest)
    except DamagedDocumentError as error:
        yield Problem(error.key, error.cause)
    except StoreError:
        yield Problem(ROOT_KEY, "says that the store is incomplete")


def _document_problems(files: Files, arrays: dict[str, ArraySpec]) -> Iterator[Problem]:
    for spec in [*arrays.values(), *crc_arrays(arrays).values()]:
        try:
            check_array_document(files, spec)
        except DamagedDocumentError as error:
            yield Problem(error.key, error.cause)


def _checked_tables(files: Files, arrays: dict[str, ArraySpec]) -> tuple[CrcTables, list[Problem]]:
    tables: CrcTables = {}
    problems = []
    for name, spec in crc_arrays(arrays).items():
        try:
            tables[name] = read_table(files, spec)
        except ChunkError as error:
            problems.append(Problem(error.key, error.cause))
    return tables, problems


def _digest_problems(
    files: Files, manifest: Manifest, arrays: dict[str, ArraySpec], tables: CrcTables
) -> Iterator[Problem]:
    if manifest.digest is None:
        return
    whole = len(tables) == len(arrays)
    if whole and digest_of(manifest, arrays, tables) != manifest.digest:
        yield Problem("crc", "does not match the digest of the manifest")
    try:
        if read_document(files, CRC_GROUP_KEY) != crc_group_document(manifest.digest):
            yield Problem(CRC_GROUP_KEY, "does not match the digest of the manifest")
    except DamagedDocumentError as error:
        yield Problem(error.key, error.cause)


def _chunk_problems(
    files: Files,
    arrays: dict[str, ArraySpec],
    tables: CrcTables,
    progress: Callable[[int, int], None],
) -> Iterator[Problem]:
    chunks = [(spec, index) for spec in arrays.values() for index in spec.indices()]

    def check(chunk: tuple[ArraySpec, tuple[int, ...]]) -> Problem | None:
        spec, index = chunk
        expected = int(tables[spec.name][index]) if spec.name in tables else None
        try:
            verify_chunk(files, spec, index, expected)
        except ChunkError as error:
            return Problem(error.key, error.cause)
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        for done, problem in enumerate(pool.map(check, chunks), start=1):
            progress(done, len(chunks))
            if problem is not None:
                yield problem


def _stray_files(files: LocalFiles, arrays: dict[str, ArraySpec]) -> Iterator[Problem]:
    known = {ROOT_KEY, CRC_GROUP_KEY, *store_keys(arrays), *store_keys(crc_arrays(arrays))}
    for key in sorted(files.list_keys()):
        if key not in known:
            yield Problem(key, "is no part of the store (a stale temporary or foreign file)")
