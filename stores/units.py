"""Writing units: their chunks in order, by the process that keeps the ledger or by any other."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import CheckedChunk, write_checked, write_chunk
from logitbank.stores.documents import read_manifest
from logitbank.stores.errors import StoreError
from logitbank.stores.files import PARTIAL, LocalFiles, OddFileError
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
"""For each array that a unit writes its (rows, ...), or the chunk of a store of the same layout."""

# A network file system may answer for a minute from what it knew of a folder.
SECONDS_UNTIL_VISIBLE = 90.0
SECONDS_BETWEEN_LOOKS = 1.0
LOOKING_THREADS = 8

UnitGroup = tuple[Unit, ...]
"""Units that are computed together."""


@dataclass(frozen=True)
class WrittenUnit:
    """A unit whose chunks have been written, and the CRC of each by its array."""

    unit: Unit
    crcs: Mapping[str, int]


class UnitSink(Protocol):
    """Where computed units go."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the store being made."""

    def write_unit(self, unit: Unit, values: UnitValues) -> WrittenUnit:
        """Write a unit's chunks."""


def write_unit(
    files: LocalFiles, arrays: dict[str, ArraySpec], unit: Unit, values: UnitValues
) -> WrittenUnit:
    """Write a unit's chunks, the ledger's last.

    Raises:
        StoreError: a file can't be written; the unit then counts as lacking.
    """
    crcs = {}
    for spec in unit_arrays(arrays):
        index, given = unit_index(spec, unit), values[spec.name]
        if isinstance(given, CheckedChunk):
            crcs[spec.name] = write_checked(files, spec, index, given)
        else:
            crcs[spec.name] = write_chunk(files, spec, index, np.asarray(given)[None])
    return WrittenUnit(unit, crcs)


@dataclass(frozen=True)
class RemoteUnitWriter:
    """Writes units into a store whose ledger is kept by a process elsewhere; it scans nothing.

    What it has written is on the disk, not only on its way there, when it says so: the machine may
    be lost before the store is sealed.
    """

    files: LocalFiles
    manifest: Manifest

    @classmethod
    def attach(cls, location: str | Path, manifest: Manifest) -> RemoteUnitWriter:
        """Find the store that another process has laid out.

        Args:
            location: the same folder, as this machine sees it.
            manifest: that process's.

        Raises:
            StoreError: the folder isn't there, or holds another store: the disk is not shared.
        """
        files = LocalFiles(location, durable=True)
        cause = "no store is there"
        if files.root.is_dir():
            found = read_manifest(files)
            same = found.provenance.created == manifest.provenance.created
            differences = identity_differences(found, manifest)
            cause = "; ".join(differences) or ("" if same else "another store is there")
        if cause:
            raise StoreError(
                f"{location} as {platform.node()} sees it is not the store being made ({cause}): "
                "--out must be on a disk that every worker shares, under the same path"
            )
        return cls(files, manifest)

    @cached_property
    def _arrays(self) -> dict[str, ArraySpec]:
        return store_arrays(self.manifest)

    def write_unit(self, unit: Unit, values: UnitValues) -> WrittenUnit:
        """Write a unit's chunks and wait until the disk has them.

        Raises:
            StoreError: a file can't be written.
        """
        return write_unit(self.files, self._arrays, unit, values)


def require_visible(
    files: LocalFiles,
    manifest: Manifest,
    written: Iterable[WrittenUnit],
    patience: float = SECONDS_UNTIL_VISIBLE,
) -> None:
    """Require this machine to see each chunk that others say they have written, as they wrote it.

    Args:
        files: the store's.
        manifest: the store's.
        written: units with the CRCs of their chunks.
        patience: seconds to wait for a file system that lags behind.

    Raises:
        StoreError: a chunk is not there, or is not what its writer told of; it is named.
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
                # Reading a folder makes a network file system ask its server again.
                if files.path(key).parent.is_dir():
                    os.listdir(files.path(key).parent)

    with ThreadPoolExecutor(LOOKING_THREADS) as pool:
        for _ in pool.map(look, written):
            pass


def remove_partials(files: LocalFiles) -> None:
    """Remove what writers that were killed have left, once every unit is there.

    One that lives on, cut off from its scheduler, fails at a unit that is not wanted any more.
    """
    for key in files.list_keys():
        if key.endswith(PARTIAL):
            files.delete(key)


def _trailer(files: LocalFiles, key: str, spec: ArraySpec) -> int | None:
    """Give the CRC at the end of a chunk's file, None unless the file is there and whole."""
    try:
        with files.opened(key) as file:
            if not spec.may_be(file.size):
                return None
            return int.from_bytes(file.tail(TRAILER_BYTES), "little")
    except (FileNotFoundError, OddFileError):
        return None


def _seen_instead(files: LocalFiles, key: str) -> str:
    return "sees other bytes" if files.path(key).exists() else "sees no such file"
