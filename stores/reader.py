"""Reading a complete store, checking everything against its tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.chunks import CheckedChunk, read_checked, read_chunk, read_chunk_into
from logitbank.stores.corrections import (
    BadRowError,
    EncodedCorrection,
    correction_named,
    correction_of_manifest,
)
from logitbank.stores.documents import (
    CRC_GROUP_KEY,
    ROOT_KEY,
    DamagedDocumentError,
    check_array_document,
    check_seal,
    read_document,
    read_manifest,
)
from logitbank.stores.encodings import Encoding, encoding_named
from logitbank.stores.errors import UsageError
from logitbank.stores.files import Files, files_at
from logitbank.stores.files.buffers import aligned_empty
from logitbank.stores.housekeeping.presence import require_present
from logitbank.stores.layout import (
    ArraySpec,
    Unit,
    block_bounds,
    crc_arrays,
    ledger_array,
    store_arrays,
    unit_index,
)
from logitbank.stores.manifest import Manifest
from logitbank.stores.parent import OpenOptions, parent_of, require_no_parent
from logitbank.stores.seal import CrcTables, crc_group_document, digest_of, read_table
from logitbank.stores.virtual import check_virtual


@dataclasses.dataclass(frozen=True)
class Store:
    """A complete store whose manifest, metadata and tables have been checked.

    It holds no open files and can be pickled. Chunks are checked as they are read. `correction` is
    applied to rows and `top` as they are read, after the check: the one of a virtual store, whose
    chunks lie in `parent`, or the one passed to `corrected_by`.
    """

    files: Files
    manifest: Manifest
    arrays: dict[str, ArraySpec]
    tables: CrcTables
    parent: Store | None = None
    correction: str | None = None
    options: OpenOptions = dataclasses.field(default_factory=OpenOptions)
    _whole: dict[str, NDArray[Any]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def open(
        cls,
        location: str | Path | Files,
        *,
        parent: str | Path | None = None,
        allow_corrections: Collection[str] = (),
    ) -> Store:
        """Open a store by its path or URL, reading small files only and listing no folder.

        Nothing is imported because the store says so, and no other host is contacted.

        Args:
            location: path or URL, or the opened files.
            parent: where the parent of a virtual store is, if it has moved; a relative path is
                resolved from the current folder, then from the store's parent folder.
            allow_corrections: corrections `import:MODULE:NAME` that a virtual store may import,
                each by exactly that name.

        Raises:
            StoreError: it is missing, incomplete or of another format version, or its manifest,
                metadata or tables have changed since it was sealed; or it is virtual and its parent
                is missing or changed, or its correction would have to be imported.
            UsageError: a parent is named for a store that is not virtual.
        """
        files = files_at(location)
        manifest = read_manifest(files)
        options = OpenOptions(None if parent is None else str(parent), tuple(allow_corrections))
        if manifest.kind == "virtual":
            return cls._open_virtual(files, manifest, options)
        require_no_parent(files, manifest, parent)
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
        return cls(files, manifest, arrays, tables, options=options)

    @classmethod
    def _open_virtual(cls, files: Files, manifest: Manifest, options: OpenOptions) -> Store:
        check_virtual(files, manifest)
        assert manifest.correction is not None, "checked by check_virtual"
        name = manifest.correction.name
        correction_of_manifest(name, files.where, options.allow_corrections)
        parent = cls.open(parent_of(files, manifest, options.parent))
        if store_arrays(manifest) != parent.arrays:
            raise DamagedDocumentError(
                files.where, ROOT_KEY, "describes arrays other than its parent's"
            )
        if options.parent is not None:
            # As it was found, so that it can be opened again from any folder.
            options = dataclasses.replace(options, parent=parent.files.location)
        return cls(files, manifest, parent.arrays, parent.tables, parent, name, options)

    def corrected_by(self, name: str) -> Store:
        """Return the same store with its rows corrected as they are read.

        Raises:
            UsageError: the correction is unknown, or the store is corrected already or holds mixed
                views, which have two labels each.
        """
        if (done := self.manifest.correction) is not None:
            raise UsageError(
                f"{self.where} is corrected by {done.name} already: open the raw store it was made "
                "from, or leave the correction out"
            )
        self.manifest.require_correctable(self.where)
        correction_named(name)
        return dataclasses.replace(self, correction=name)

    @property
    def where(self) -> str:
        """The store's path or URL, as it was given."""
        return self.files.where

    @property
    def encoding(self) -> Encoding:
        """The encoding of the rows of logits."""
        return encoding_named(self.manifest.encoding)

    @property
    def row_arrays(self) -> tuple[str, ...]:
        """The names of the arrays that hold the rows of logits, in the encoding's order."""
        return tuple(array.name for array in self.encoding.arrays(self.manifest.dataset.classes))

    @property
    def target(self) -> NDArray[np.int32]:
        """The (N,) ground truth, in dataset order."""
        return self._kept("target")

    @property
    def sample_id(self) -> NDArray[np.uint64]:
        """The (N,) ids of the samples, in dataset order."""
        return self._kept("sample_id")

    def read_unit(self, name: str, unit: Unit) -> NDArray[Any]:
        """Read the rows of one unit, without the padding, into a new array.

        Raises:
            StoreError: as `read_unit_into`.
        """
        start, stop = block_bounds(self.manifest, unit.block)
        out = self._memory([name], stop - start)
        self._read_units({unit: out})
        return out[name]

    def read_unit_into(self, name: str, unit: Unit, out: NDArray[Any]) -> None:
        """Read the rows of one unit into existing (rows, ...) C-contiguous memory.

        Raises:
            ChunkError: the chunk is missing, damaged or belongs elsewhere; `out` is then undefined.
            BadRowError: a row can't be corrected; its view and sample are named.
        """
        self._read_units({unit: {name: out}})

    def read_unit_codes(self, unit: Unit) -> dict[str, NDArray[Any]]:
        """Read the encoded rows of one unit: the (rows, ...) of each of `row_arrays`.

        Raises:
            StoreError: as `read_unit_into`.
        """
        start, stop = block_bounds(self.manifest, unit.block)
        out = self._memory(self.row_arrays, stop - start)
        self._read_units({unit: out})
        return out

    def read_checked(self, name: str, unit: Unit) -> CheckedChunk:
        """Read the chunk of one unit as it is stored, with its CRC, for writing it elsewhere.

        Raises:
            ChunkError: the chunk is missing, damaged or belongs elsewhere.
        """
        source, spec = self.parent or self, self.arrays[name]
        index = unit_index(spec, unit)
        return read_checked(source.files, spec, index, int(self.tables[name][index]))

    def read_view(self, name: str, view: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read one view of an array that has a row for each view and sample.

        Args:
            name: one of `row_arrays`, `top`, `view_params` or `pixel_crc`.
            view: 0 to V - 1.
            out: (N, ...) C-contiguous memory of the array's dtype to read into, without a copy for
                local files.

        Returns:
            `out`, or a new (N, ...) array.

        Raises:
            StoreError: as `read_unit_into`; `out` is then undefined.
        """
        if out is None:
            out = self._memory([name], self.manifest.dataset.samples)[name]
        self._read_view(view, {name: out})
        return out

    def read_codes(
        self, view: int, out: Mapping[str, NDArray[Any]] | None = None
    ) -> Mapping[str, NDArray[Any]]:
        """Read the encoded rows of one view: the (N, ...) of each of `row_arrays`.

        Args:
            view: 0 to V - 1.
            out: memory for each of `row_arrays`, as for `read_view`.

        Returns:
            `out`, or new arrays.

        Raises:
            StoreError: as `read_unit_into`; `out` is then undefined.
        """
        if out is None:
            out = self._memory(self.row_arrays, self.manifest.dataset.samples)
        self._read_view(view, out)
        return out

    def read_logits(self, view: int) -> NDArray[np.float32]:
        """Read and decode the (N, C) float32 logits of one view.

        Raises:
            StoreError: as `read_unit_into`.
        """
        return self.encoding.decode(self.read_codes(view))

    def _memory(self, names: Iterable[str], rows: int) -> dict[str, NDArray[Any]]:
        """Return new memory for rows of some arrays."""
        specs = [self.arrays[name] for name in names]
        return {spec.name: aligned_empty((rows, *spec.shape[2:]), spec.dtype) for spec in specs}

    def _read_view(self, view: int, wanted: Mapping[str, NDArray[Any]]) -> None:
        """Read one view of some arrays, each into its (N, ...) memory."""
        if not 0 <= view < self.manifest.views:
            raise IndexError(f"view {view} of {self.where}, which has {self.manifest.views}")
        blocks = range(ledger_array(self.arrays).grid[1])
        bounds = {Unit(view, block): block_bounds(self.manifest, block) for block in blocks}
        self._read_units(
            {
                unit: {name: out[start:stop] for name, out in wanted.items()}
                for unit, (start, stop) in bounds.items()
            }
        )

    def require_chunks(self, names: Iterable[str], views: Iterable[int]) -> int:
        """Check that the chunks of some views exist and have the right size, without reading them.

        Their bytes are checked only as they are read.

        Args:
            names: arrays, as for `read_view`; for those that a correction changes, all that it
                reads are checked too, and `target` and `sample_id` always are.
            views: 0 to V - 1.

        Returns:
            The number of chunks.

        Raises:
            ChunkError: the first that is missing or of the wrong size, and how many more are.
        """
        wanted = dict.fromkeys(names)
        changed = _changed(self._encoded_correction())
        if wanted.keys() & set(changed):
            wanted |= dict.fromkeys(changed)
        chosen = sorted(set(views))
        chunks: list[tuple[ArraySpec, tuple[int, ...]]]
        chunks = [(self.arrays[name], (0,)) for name in ("target", "sample_id")]
        for spec in (self.arrays[name] for name in wanted):
            blocks = range(spec.grid[1])
            chunks += [(spec, unit_index(spec, Unit(v, b))) for v in chosen for b in blocks]
        require_present((self.parent or self).files, chunks)
        return len(chunks)

    def _encoded_correction(self) -> EncodedCorrection | None:
        """Return the correction applied as rows are read, None if there is none."""
        if self.correction is None:
            return None
        classes = self.manifest.dataset.classes
        return EncodedCorrection.of(correction_named(self.correction), self.encoding, classes)

    def _read_units(self, units: Mapping[Unit, Mapping[str, NDArray[Any]]]) -> None:
        """Read arrays of some units, each into its memory, as stored or corrected."""
        correct = self._encoded_correction()
        changed = _changed(correct)
        for unit, wanted in units.items():
            for name in wanted.keys() - set(changed):
                self._read_stored(name, unit, wanted[name])
        if correct is None or not any(wanted.keys() & set(changed) for wanted in units.values()):
            return
        with ThreadPoolExecutor(1, thread_name_prefix="correct") as pool:
            corrected = [
                self._read_corrected(unit, wanted, correct, pool) for unit, wanted in units.items()
            ]
        # A bad row is reported only once every chunk has been found good.
        for future in corrected:
            future.result()

    def _read_corrected(
        self,
        unit: Unit,
        wanted: Mapping[str, NDArray[Any]],
        correct: EncodedCorrection,
        pool: ThreadPoolExecutor,
    ) -> Future[None]:
        """Read the arrays that a correction needs for a unit, and correct rows as they arrive.

        Those that are not wanted are read into memory of their own. The pool's one thread corrects
        a piece, while it is in cache, as the next one is read.
        """
        start, stop = block_bounds(self.manifest, unit.block)
        aside = [name for name in _changed(correct) if name not in wanted]
        rows = {**wanted, **self._memory(aside, stop - start)}
        target = np.array(self.target[start:stop])
        pieces: SimpleQueue[slice | None] = SimpleQueue()
        kernel = partial(correct.correction, every_row=False)

        def correct_pieces() -> None:
            self._read_stored("top", unit, rows["top"])
            for piece in iter(pieces.get, None):
                codes = {name: rows[name][piece] for name in correct.arrays}
                try:
                    correct(codes, rows["top"][piece], target[piece], kernel)
                except BadRowError as error:
                    where = (self.parent or self).where
                    raise error.in_store(where, unit.view, start + piece.start) from None

        corrected = pool.submit(correct_pieces)
        *first, last = correct.arrays
        try:
            for name in first:
                self._read_stored(name, unit, rows[name])
            self._read_stored(last, unit, rows[last], pieces.put)
        finally:
            pieces.put(None)
        return corrected

    def _read_stored(
        self,
        name: str,
        unit: Unit,
        out: NDArray[Any],
        on_rows: Callable[[slice], None] | None = None,
    ) -> None:
        files, spec = (self.parent or self).files, self.arrays[name]
        index = unit_index(spec, unit)
        expected = int(self.tables[name][index])
        read_chunk_into(files, spec, index, expected, out, on_rows)

    def _kept(self, name: str) -> NDArray[Any]:
        """Return an array of one chunk, read on first use and then cached."""
        # Not with `cached_property`, which takes a lock in Python 3.11: if another thread holds it
        # while a process is forked, it stays locked in the child.
        if name not in self._whole:
            files, expected = (self.parent or self).files, int(self.tables[name][0])
            self._whole[name] = read_chunk(files, self.arrays[name], (0,), expected)
        return self._whole[name]


def _changed(correct: EncodedCorrection | None) -> tuple[str, ...]:
    """Return the arrays that a correction reads and changes."""
    return () if correct is None else (*correct.arrays, "top")
