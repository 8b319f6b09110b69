"""The full check of a store: every document, every chunk and every stray file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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
from logitbank.stores.files import FileError, Files, files_at, without_secrets
from logitbank.stores.housekeeping.strays import find_strays
from logitbank.stores.layout import ArraySpec, crc_arrays, store_arrays, unit_arrays
from logitbank.stores.manifest import Manifest
from logitbank.stores.parent import parent_of, require_no_parent
from logitbank.stores.seal import CrcTables, crc_group_document, digest_of, read_table
from logitbank.stores.virtual import check_virtual

THREADS = 4


Remedy = Literal["rerun", "delete", "none"]
"""What fixes a problem: `rerun`, running the job that made the store again; `delete`, removing the
file by hand, since no job removes what may be the user's; `none`, neither (the cause says more)."""


@dataclass(frozen=True)
class Problem:
    """A problem with a store: the key of the file, what is wrong with it, and what fixes it.

    For a file of a virtual store's parent, `parent` is that store and the key begins with it.
    """

    key: str
    cause: str
    remedy: Remedy = "rerun"
    parent: str | None = None


def verify_store(
    location: str | Path | Files,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    parent: str | Path | None = None,
) -> list[Problem]:
    """Check the whole store and return the problems found.

    Args:
        location: path or URL, or the opened files; files that are not part of the store are only
            found where they can be listed.
        progress: called with the number of chunks checked so far and in total.
        parent: where the parent of a virtual store is, if it has moved.

    Returns:
        The problems, an empty list for a good store.

    Raises:
        StoreError: there is no store at the location, or its manifest can't be read.
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
    document_problems = list(_document_problems(files, arrays))
    problems += document_problems
    if problems and _describes_others(arrays, document_problems):
        problems.append(Problem(ROOT_KEY, "describes arrays other than those in the store"))
        return problems
    problems += _chunk_problems(files, arrays, tables, progress)
    named = {problem.key for problem in problems}
    problems += [each for each in _stray_problems(files, arrays) if each.key not in named]
    # A link in the path of several files is reported for each of them.
    return list(dict.fromkeys(problems))


def _virtual_problems(
    files: Files,
    manifest: Manifest,
    progress: Callable[[int, int], None],
    named: str | Path | None,
) -> list[Problem]:
    """Check a virtual store: its manifest, and the whole of its parent."""
    try:
        check_virtual(files, manifest)
        parent = parent_of(files, manifest, named)
        in_parent = verify_store(parent, progress)
        parent = without_secrets(parent)
    except DamagedDocumentError as error:
        return [_problem(error)]
    except StoreError as error:
        return [Problem(ROOT_KEY, str(error), "none")]
    problems = [
        replace(problem, key=f"{parent}/{problem.key}", parent=problem.parent or parent)
        for problem in in_parent
    ]
    return [*problems, *_stray_problems(files, {})]


def _describes_others(arrays: dict[str, ArraySpec], problems: list[Problem]) -> bool:
    """Return whether the manifest matches none of the arrays that units are written to.

    Then the manifest itself is wrong, and checking its chunks would list endless missing ones.
    """
    bad = {problem.key for problem in problems}
    return all(spec.document_key in bad for spec in unit_arrays(arrays))


def _manifest_problems(files: Files, manifest: Manifest) -> Iterator[Problem]:
    try:
        check_seal(files, manifest)
    except DamagedDocumentError as error:
        yield _problem(error)
    except StoreError:
        yield Problem(ROOT_KEY, "marks the store as incomplete")


def _document_problems(files: Files, arrays: dict[str, ArraySpec]) -> Iterator[Problem]:
    for spec in [*arrays.values(), *crc_arrays(arrays).values()]:
        try:
            check_array_document(files, spec)
        except (DamagedDocumentError, FileError) as error:
            yield _problem(error)


def _checked_tables(files: Files, arrays: dict[str, ArraySpec]) -> tuple[CrcTables, list[Problem]]:
    tables: CrcTables = {}
    problems = []
    for name, spec in crc_arrays(arrays).items():
        try:
            tables[name] = read_table(files, spec)
        except (ChunkError, FileError) as error:
            problems.append(_problem(error))
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
    except (DamagedDocumentError, FileError) as error:
        yield _problem(error)


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
        except (ChunkError, FileError) as error:
            return _problem(error)
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        for done, problem in enumerate(pool.map(check, chunks), start=1):
            progress(done, len(chunks))
            if problem is not None:
                yield problem


def _stray_problems(files: Files, arrays: dict[str, ArraySpec]) -> Iterator[Problem]:
    for stray in find_strays(files, arrays):
        remedy: Remedy = "rerun" if stray.is_removed else "delete"
        yield Problem(stray.key, f"is {stray.kind} that is not part of the store", remedy)


def _problem(error: ChunkError | DamagedDocumentError | FileError) -> Problem:
    """Turn a file's error into a problem; no job fixes a file that can't be reached or read."""
    remedy: Remedy = "none" if isinstance(error, FileError) else "rerun"
    return Problem(error.key, error.cause, remedy)
