"""Reading a complete store: nothing is handed out that its tables do not vouch for."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import read_chunk, read_chunk_into
from logitbank.stores.documents import (
    CRC_GROUP_KEY,
    DamagedDocumentError,
    check_array_document,
    check_seal,
    read_document,
    read_manifest,
)
from logitbank.stores.files import Files, LocalFiles, files_at
from logitbank.stores.layout import (
    ArraySpec,
    Unit,
    block_bounds,
    crc_arrays,
    store_arrays,
    unit_index,
)
from logitbank.stores.manifest import Manifest
from logitbank.stores.seal import CrcTables, crc_group_document, digest_of, read_table


@dataclasses.dataclass(frozen=True)
class Store:
    """A complete store whose manifest, metadata and tables have been checked.

    It holds no open file and pickles as it is. Chunks are checked as they are read.
    """

    files: Files
    manifest: Manifest
    arrays: dict[str, ArraySpec]
    tables: CrcTables

    @classmethod
    def open(cls, location: str | Path) -> Store:
        """Open a store by its path or URL, from its small files alone; no folder is listed.

        Raises:
            StoreError: it is absent, incomplete, of another format version, or its manifest,
                metadata or tables are not as they were sealed.
        """
        files = files_at(location)
        manifest = read_manifest(files)
        check_seal(files, manifest)
        arrays = store_arrays(manifest)
        tables = {}
        for name, spec in crc_arrays(arrays).items():
            check_array_document(files, arrays[name])
            check_array_document(files, spec)
            tables[name] = read_table(files, spec)
        if digest_of(manifest, arrays, tables) != manifest.digest:
            raise DamagedDocumentError(
                files.where, "crc", "does not match the digest of the manifest"
            )
        if read_document(files, CRC_GROUP_KEY) != crc_group_document(manifest.digest):
            raise DamagedDocumentError(
                files.where, CRC_GROUP_KEY, "does not match the digest of the manifest"
            )
        return cls(files, manifest, arrays, tables)

    @property
    def where(self) -> str:
        """The store's path or URL, as it was given."""
        return self.files.where

    @cached_property
    def target(self) -> NDArray[np.int32]:
        """The (N,) ground truth, in dataset order."""
        return self._chunk("target", (0,))

    @cached_property
    def sample_id(self) -> NDArray[np.uint64]:
        """The (N,) ids of the samples, in dataset order."""
        return self._chunk("sample_id", (0,))

    def read_block(self, name: str, unit: Unit) -> NDArray[Any]:
        """Read the rows of one (view, block), without the padding.

        Raises:
            ChunkError: the chunk is missing, damaged or belongs elsewhere.
        """
        start, stop = block_bounds(self.manifest, unit.block)
        return self._chunk(name, unit_index(self.arrays[name], unit))[0, : stop - start]

    def read_view(self, name: str, view: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read one view of an array that has a row for each view and sample.

        Args:
            name: `logits` (codes), `top`, `view_params` or `pixel_crc`.
            view: 0 to V - 1.
            out: (N, ...) C-contiguous memory of the array's dtype to read into; local chunks go
                straight there.

        Returns:
            `out`, or a new (N, ...) array.

        Raises:
            ChunkError: a chunk is missing, damaged or belongs elsewhere; `out` is then undefined.
        """
        spec = self.arrays[name]
        if not 0 <= view < self.manifest.views:
            raise IndexError(f"view {view} of {self.where}, which has {self.manifest.views}")
        if out is None:
            out = np.empty(spec.shape[1:], spec.dtype)
        for block in range(spec.grid[1]):
            start, stop = block_bounds(self.manifest, block)
            self._read_into(spec, Unit(view, block), out[start:stop])
        return out

    def _read_into(self, spec: ArraySpec, unit: Unit, out: NDArray[Any]) -> None:
        index = unit_index(spec, unit)
        expected = int(self.tables[spec.name][index])
        if isinstance(self.files, LocalFiles):
            read_chunk_into(self.files, spec, index, expected, out)
        else:
            out[...] = read_chunk(self.files, spec, index, expected)[0, : len(out)]

    def _chunk(self, name: str, index: tuple[int, ...]) -> NDArray[Any]:
        expected = int(self.tables[name][index])
        return read_chunk(self.files, self.arrays[name], index, expected)
