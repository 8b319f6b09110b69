"""Writing the chunks of a unit, in the process that keeps the ledger or in any other."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import CheckedChunk, read_chunk, write_checked, write_chunk
from logitbank.stores.documents import read_manifest
from logitbank.stores.errors import StoreError
from logitbank.stores.files import PARTIAL, AbsentError, Files, OddFileError, open_files
from logitbank.stores.layout import (
    TRAILER_BYTES,
    ArraySpec,
    Unit,
    store_arrays,
    unit_arrays,
    unit_index,
)
from logitbank.stores.manifest import Manifest, identity_differences

UnitValues = Mapping[str, NDArray[Any] | CheckedChunk]
"""Maps each array that a unit writes to its (rows, ...), or to a chunk of the same layout."""

# A network file system may serve a folder's listing from its cache for a minute.
SECONDS_UNTIL_VISIBLE = 90.0
SECONDS_BETWEEN_LOOKS = 1.0
LOOKING_THREADS = 8

UnitGroup = tuple[Unit, ...]
"""Units that are computed together."""


@dataclass(frozen=True)
class WrittenUnit:
    """A unit whose chunks have been written, with the CRC of each by the name of its array."""

    unit: Unit
    crcs: Mapping[str, int]


@dataclass(frozen=True)
class UnitWriter:
    """Writes units into a store that is laid out already; `StoreWriter` keeps the ledger."""

    files: Files
    manifest: Manifest

    @classmethod
    def attach(cls, location: str | Path | Files, manifest: Manifest) -> UnitWriter:
        """Open the store that another process has laid out.

        Units are flushed to the disk by the time `write` returns, since this machine may be lost
        before the store is sealed.

        Args:
            location: the same location, as this machine sees it.
            manifest: the other process's.

        Raises:
            StoreError: there is no store or a different one, so the disk is not shared.
        """
        files = open_files(location).as_durable()
        cause = _mismatch(files, manifest)
        if cause is not None:
            raise StoreError(
                f"{files.where} as {platform.node()} sees it is not the store being made "
                f"({cause}): --out must be on a disk that every worker shares, under the same path"
            )
        return cls(files, manifest)

    @cached_property
    def samples(self) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """The store's (N,) `target` and (N,) `sample_id`.

        Raises:
            StoreError: either is missing or damaged.
        """
        target, sample_id = (
            read_chunk(self.files, self._arrays[name], (0,), None)
            for name in ("target", "sample_id")
        )
        return target, sample_id

    @cached_property
    def _arrays(self) -> dict[str, ArraySpec]:
        return store_arrays(self.manifest)

    def write(self, unit: Unit, values: UnitValues) -> WrittenUnit:
        """Write a unit's chunks, the ledger array's last.

        Raises:
            StoreError: a file can't be written; the unit then counts as missing.
        """
        crcs = {}
        for spec in unit_arrays(self._arrays):
            index, given = unit_index(spec, unit), values[spec.name]
            if isinstance(given, CheckedChunk):
                crcs[spec.name] = write_checked(self.files, spec, index, given)
            else:
                crcs[spec.name] = write_chunk(self.files, spec, index, np.asarray(given)[None])
        return WrittenUnit(unit, crcs)


def _mismatch(files: Files, manifest: Manifest) -> str | None:
    """Return why a location is not that of the store being made, None if it is."""
    try:
        files.require_exists()
    except AbsentError:
        return "no store is there"
    found = read_manifest(files)
    differences = identity_differences(found, manifest)
    if differences:
        return "; ".join(differences)
    same = found.provenance.created == manifest.provenance.created
    return None if same else "another store is there"


def require_visible(
    files: Files,
    manifest: Manifest,
    written: Iterable[WrittenUnit],
    patience: float = SECONDS_UNTIL_VISIBLE,
) -> None:
    """Check that this machine sees each chunk that other processes report, as they wrote it.

    Args:
        files: the store's.
        manifest: the store's.
        written: units with the CRCs of their chunks.
        patience: seconds to wait for a file system that lags behind.

    Raises:
        StoreError: a chunk is missing, or has another CRC than reported; it is named.
    """
    arrays = unit_arrays(store_arrays(manifest))
    deadline = time.monotonic() + patience

    def look(unit: WrittenUnit) -> None:
        for spec in arrays:
            key = spec.chunk_key(unit_index(spec, unit.unit))
            while _trailer(files, key, spec) != unit.crcs[spec.name]:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{files.where}: a worker has written {key}, but {platform.node()} "
                        f"{_seen_instead(files, key)} {patience:.0f} s later: --out must be on a "
                        "disk that every worker shares, and no other job may write there"
                    )
                time.sleep(SECONDS_BETWEEN_LOOKS)
                files.exists(key, fresh=True)

    with ThreadPoolExecutor(LOOKING_THREADS) as pool:
        for _ in pool.map(look, written):
            pass


def remove_partials(files: Files) -> None:
    """Remove the temporary files of killed writers, once every unit is written.

    A writer that is still running, cut off from its scheduler, fails at a unit nobody needs.
    """
    for key in files.list_keys():
        if key.endswith(PARTIAL):
            files.delete(key)


def _trailer(files: Files, key: str, spec: ArraySpec) -> int | None:
    """Return the CRC at the end of a chunk's file, None unless the file exists and is whole."""
    try:
        with files.open(key) as file:
            if not spec.allows_size(file.size):
                return None
            return int.from_bytes(file.tail(TRAILER_BYTES), "little")
    except (FileNotFoundError, OddFileError):
        return None


def _seen_instead(files: Files, key: str) -> str:
    return "sees other bytes" if files.exists(key) else "sees no such file"
