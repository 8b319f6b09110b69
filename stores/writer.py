"""Writing a store: the empty layout, then units in any order, and the seal at the end.

The presence of a good chunk is the ledger. A unit's chunks are written with that of the ledger
array last, each file whole or not at all; a job that is run again checks every existing chunk,
removes those that are bad or stale, and computes only the missing units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import ChunkError, chunk_parts, read_chunk, verify_chunk
from logitbank.stores.corrections.ranking import label_ranks
from logitbank.stores.documents import (
    CRC_GROUP_KEY,
    ROOT_KEY,
    UNFINISHED,
    UNFINISHED_KEY,
    DamagedDocumentError,
    check_array_document,
)
from logitbank.stores.errors import StoreError
from logitbank.stores.files import Files, open_files
from logitbank.stores.files.printable import printable
from logitbank.stores.housekeeping.creation import create_layout
from logitbank.stores.housekeeping.strays import remove_strays
from logitbank.stores.layout import (
    Unit,
    all_units,
    block_bounds,
    ledger_array,
    store_arrays,
    store_keys,
    unit_arrays,
    unit_index,
)
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.recovery import recognise
from logitbank.stores.seal import (
    CrcTables,
    crc_group_document,
    digest_of,
    document_bytes,
    root_document,
    unfinished_group_document,
    write_tables,
)
from logitbank.stores.units import UnitValues, UnitWriter, WrittenUnit

SCAN_THREADS = 4

RowLabels = Callable[[NDArray[np.int32], NDArray[np.int64], NDArray[Any]], NDArray[np.int32]]
"""Maps (N,) `target`, (B,) samples and the rows' `view_params` to the (B,) labels of the rows."""


class StoreWriter:
    """A store being made.

    `missing` lists the units still to be computed, in order; `complete` is true if the store was
    sealed and found whole when it was opened; `mended` lists the keys that were bad or stale, or
    missing from a sealed store.

    With a `share` of the units, other processes write the store at the same time. Then only the
    share's chunks are checked, and no temporary files are removed, since another process may be
    writing them. Whichever process finds every unit written opens the store without a share to
    seal it.
    """

    def __init__(
        self,
        files: Files,
        manifest: Manifest,
        target: NDArray[np.int32],
        sample_id: NDArray[np.uint64],
        share: Collection[Unit] | None = None,
    ) -> None:
        found = recognise(files, manifest)
        if share is not None and found.digest is not None:
            raise StoreError(
                f"{files.where}: its tables are damaged, which a part can't mend: run the job once "
                "without --part"
            )
        self.files, self.manifest = files, found.manifest
        # A resume depends on these; chunks of a single process are flushed when it seals.
        self._small_files = files.as_durable()
        self.arrays = store_arrays(manifest)
        self._unit_writer = UnitWriter(files, manifest)
        self.mended: list[str] = []
        self._share = None if share is None else frozenset(share)
        self._expected_digest = found.digest
        self._tables: CrcTables = {
            name: np.zeros(spec.grid, np.uint32) for name, spec in self.arrays.items()
        }
        if share is None:
            self._remove_strays()
        self._mend_small_files(target, sample_id)
        bad = self._scan(found.tables)
        if found.manifest_lost:
            # Only now: once it is rewritten, the tables that proved it no longer bind chunks.
            self._put_manifest(self.manifest)
            self.mended.append(ROOT_KEY)
        self.missing = [unit for unit in self._own_units() if unit in bad]
        self._remaining = set(self.missing)
        self.mended = list(dict.fromkeys(self.mended))
        self.complete = found.intact and not self.mended and not self.missing
        is_sealed = self.manifest.status == "complete" and self._expected_digest is None
        if is_sealed and not self.complete:
            # If this job is killed, the half-mended store must not pass for complete. With damaged
            # tables it can't, and only its digest can prove whose chunks these are.
            self._put_manifest(self.manifest.unsealed())
        if share is None and found.witness_lost:
            document = unfinished_group_document(self.manifest.identity())
            self._put_document(UNFINISHED_KEY, document)

    @classmethod
    def open(
        cls,
        location: str | Path | Files,
        manifest: Manifest,
        target: NDArray[np.int32],
        sample_id: NDArray[np.uint64],
        share: Collection[Unit] | None = None,
    ) -> StoreWriter:
        """Create the empty layout of a store, or resume an existing one.

        What killed processes have left beside it is removed.

        Args:
            location: the path of the store, where nothing exists yet, or an empty folder or a store
                of the same identity does; or the opened files.
            manifest: what the store is to hold.
            target: (N,) labels.
            sample_id: (N,) ids.
            share: the units to write while other processes write others; None if this process is
                the only one.

        Raises:
            StoreError: the location holds something else, or can't be written.
        """
        files = open_files(location)
        if files.is_free():
            create_layout(files, manifest, target, sample_id)
        files = files if share is None else files.as_durable()
        writer = cls(files, manifest, target, sample_id, share)
        files.remove_leftovers()
        return writer

    def record(self, measured: Measured) -> None:
        """Record what was measured before the first unit."""
        self._put_manifest(dataclasses.replace(self.manifest, measured=measured))

    def write_unit(self, unit: Unit, values: UnitValues) -> WrittenUnit:
        """Write a unit's chunks and enter the unit into the ledger.

        Args:
            unit: the unit.
            values: the (rows, ...) for each of `view_params`, `pixel_crc`, `top` and the encoding's
                arrays, or a chunk from a store of the same layout, which is written unchanged.

        Raises:
            StoreError: a file can't be written; the unit then counts as missing.
        """
        written = self._unit_writer.write(unit, values)
        self.accept(written)
        return written

    def accept(self, written: WrittenUnit) -> None:
        """Enter a unit that another process has written into the ledger."""
        for spec in unit_arrays(self.arrays):
            self._tables[spec.name][unit_index(spec, written.unit)] = written.crcs[spec.name]
        self._remaining.discard(written.unit)

    def seal(self, row_labels: RowLabels | None = None) -> Manifest:
        """Finish the store once every unit is written: flush, tables, digest, then manifest.

        The label ranks and accuracies over all rows are computed here.

        Args:
            row_labels: the labels to rank, if a row's label is not that of its sample.

        Raises:
            StoreError: a unit is missing, a chunk can't be read back or flushed, or the store was
                sealed before and its content can't be proved to be the same.
        """
        assert self._share is None, "a share is never the whole store"
        if self._remaining:
            raise StoreError(
                f"{self.files.where} can't be sealed: {len(self._remaining)} units are missing"
            )
        manifest = self.manifest.unsealed()
        manifest = dataclasses.replace(
            manifest, measured=self._with_ranks(manifest.measured, row_labels)
        )
        digest = digest_of(manifest, self.arrays, self._tables)
        if self._expected_digest not in (None, digest):
            raise StoreError(
                f"{self.files.where}: its tables are damaged and its content does not match its "
                "digest, so no chunk can be trusted: name another --out"
            )
        self.files.sync(store_keys(self.arrays))
        write_tables(self._small_files, self.arrays, self._tables)
        self._put_document(CRC_GROUP_KEY, crc_group_document(digest))
        sealed = manifest.sealed(digest, datetime.now(UTC).isoformat(timespec="seconds"))
        self._put_manifest(sealed)
        for key in (UNFINISHED_KEY, UNFINISHED):
            self.files.delete(key)
        return sealed

    def _put_manifest(self, manifest: Manifest) -> None:
        self._small_files.put(ROOT_KEY, [document_bytes(root_document(manifest))])
        self.manifest = manifest

    def _put_document(self, key: str, document: dict[str, Any]) -> None:
        self._small_files.put(key, [document_bytes(document)])

    def _with_ranks(self, measured: Measured, row_labels: RowLabels | None) -> Measured:
        """Return `measured` with the ranks of the labels over all rows, from `top` and `target`."""
        target = read_chunk(self.files, self.arrays["target"], (0,), None)
        counts = np.zeros(self.manifest.top_classes + 1, np.int64)
        for unit in all_units(self.manifest):
            samples = np.arange(*block_bounds(self.manifest, unit.block))
            labels = target[samples]
            if row_labels is not None:
                labels = row_labels(target, samples, self._written("view_params", unit))
            counts += label_ranks(self._written("top", unit), labels)
        percent = 100 / counts.sum()
        return dataclasses.replace(
            measured,
            top1=round(float(counts[0] * percent), 4),
            top5=round(float(counts[: min(5, len(counts) - 1)].sum() * percent), 4),
            label_ranks=tuple(counts.tolist()),
        )

    def _written(self, name: str, unit: Unit) -> NDArray[Any]:
        """Read back the rows of a unit."""
        start, stop = block_bounds(self.manifest, unit.block)
        spec = self.arrays[name]
        index = unit_index(spec, unit)
        expected = int(self._tables[name][index])
        return read_chunk(self.files, spec, index, expected)[0, : stop - start]

    def _mend_small_files(self, target: NDArray[np.int32], sample_id: NDArray[np.uint64]) -> None:
        """Rewrite the documents and per-sample arrays that are missing, damaged or different."""
        contents: dict[str, Sequence[Any]] = {}
        for spec in self.arrays.values():
            try:
                check_array_document(self.files, spec)
            except DamagedDocumentError:
                contents[spec.document_key] = [document_bytes(spec.document())]
        for name, values in (("target", target), ("sample_id", sample_id)):
            spec = self.arrays[name]
            parts = chunk_parts(spec, values)
            self._tables[name][0] = wanted = int.from_bytes(parts[1], "little")
            try:
                verify_chunk(self.files, spec, (0,), wanted)
            except ChunkError:
                contents[spec.chunk_key((0,))] = parts
        self._small_files.put_all(contents)
        self.mended += contents

    def _own_units(self) -> list[Unit]:
        units = all_units(self.manifest)
        return units if self._share is None else [unit for unit in units if unit in self._share]

    def _remove_strays(self) -> None:
        """Remove what killed jobs have left, and anything in a chunk's place that is not one."""
        self.mended += map(printable, remove_strays(self.files, self.arrays))

    def _scan(self, tables: CrcTables) -> set[Unit]:
        """Check every chunk of every unit, removing bad ones, and return the units of those."""
        units = self._own_units()
        with ThreadPoolExecutor(SCAN_THREADS) as pool:
            whole = pool.map(lambda unit: self._check_unit(unit, tables), units)
            return {unit for unit, good in zip(units, whole, strict=True) if not good}

    def _check_unit(self, unit: Unit, tables: CrcTables) -> bool:
        good = True
        for spec in unit_arrays(self.arrays):
            index = unit_index(spec, unit)
            expected = int(tables[spec.name][index]) if spec.name in tables else None
            try:
                crc = verify_chunk(self.files, spec, index, expected)
                self._tables[spec.name][index] = crc
            except ChunkError:
                good = False
                key = spec.chunk_key(index)
                is_there = self.files.exists(key)
                if is_there or tables:
                    self.mended.append(key)
                if is_there:
                    self.files.delete(key)
        if not good:
            # The ledger chunk goes too, so that a unit with a bad chunk never counts.
            ledger = ledger_array(self.arrays)
            self.files.delete(ledger.chunk_key(unit_index(ledger, unit)))
        return good


def unit_rows(units: Iterable[Unit], manifest: Manifest) -> int:
    """Count the rows of some units."""
    bounds = (block_bounds(manifest, unit.block) for unit in units)
    return sum(stop - start for start, stop in bounds)
