"""The preprocessing stage: a corrected store from a raw one, block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from logitbank.pipeline.provenance import provenance_now
from logitbank.stores.corrections import (
    BUILT_IN,
    BadRowError,
    Correction,
    EncodedCorrection,
    RowCorrector,
    correction_named,
)
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.layout import Unit, block_bounds, unit_arrays
from logitbank.stores.manifest import CorrectionIdentity, Manifest, Measured
from logitbank.stores.memory import aligned_empty
from logitbank.stores.reader import Store
from logitbank.stores.units import UnitSink, WrittenUnit
from logitbank.stores.virtual import virtual_manifest, write_virtual
from logitbank.stores.writer import StoreWriter

Progress = Callable[[int, int], None]
BATCH_ROWS = 16_384


def corrected_manifest(parent: Store, correction: str) -> Manifest:
    """Describe the store that a correction makes of its parent.

    Raises:
        UsageError: an unknown correction, or a parent that is corrected already or holds mixed
            views.
    """
    found = correction_named(correction)
    manifest = parent.manifest
    if manifest.correction is not None:
        raise UsageError(
            f"{parent.where} is corrected by {manifest.correction.name} already: correct the raw "
            "store it was made from"
        )
    manifest.require_correctable(parent.where)
    assert manifest.digest is not None, "only a complete store can be opened"
    measured = dataclasses.replace(manifest.measured, top1=None, top5=None, label_ranks=())
    return dataclasses.replace(
        manifest.unsealed(),
        kind="corrected",
        correction=CorrectionIdentity(correction, manifest.digest, found.temperature),
        measured=measured,
        provenance=provenance_now(
            "cpu", teacher_spec=manifest.provenance.teacher_spec, parent=parent.where
        ),
    )


def write_virtual_store(
    parent: Store, correction: str, location: str | Path
) -> tuple[Manifest, bool]:
    """Make a store that reads as the corrected one and holds its manifest alone.

    Returns:
        The sealed manifest, and whether it was written now.

    Raises:
        UsageError: as `corrected_manifest`, or a correction of values: nothing in such a store
            could tell that its code changed.
        StoreError: the folder holds something else, or can't be written.
    """
    wanted = corrected_manifest(parent, correction)
    if correction not in BUILT_IN:
        raise UsageError(
            f"--virtual takes {' or '.join(BUILT_IN)}: with {correction}, whose code may change, "
            "write a full store"
        )
    return write_virtual(location, virtual_manifest(wanted, parent.where, location))


def wrong_rows(measured: Measured) -> tuple[int, int]:
    """Give the rows whose label is not first, and all rows: what a correction changes, and of."""
    return sum(measured.label_ranks[1:]), sum(measured.label_ranks)


def correct_store(
    parent: Store,
    writer: StoreWriter,
    *,
    threads: int = 2,
    device: str = "cpu",
    batch_rows: int = BATCH_ROWS,
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Correct the units that a store lacks, and seal it; the arguments are `correct_lacking`'s.

    Returns:
        The sealed manifest.

    Raises:
        StoreError: as `correct_lacking`, or a row is still wrong.
        UsageError: a correction that the device doesn't know.
    """
    correct_lacking(
        parent, writer, threads=threads, device=device, batch_rows=batch_rows, progress=progress
    )
    return seal_corrected(writer)


def correct_lacking(
    parent: Store,
    writer: StoreWriter,
    *,
    threads: int = 2,
    device: str = "cpu",
    batch_rows: int = BATCH_ROWS,
    progress: Progress = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Correct the units that a store, or a share of it, lacks.

    Args:
        parent: the raw store.
        writer: the corrected store being made, of `corrected_manifest`.
        threads: how many units are read, corrected and written at a time.
        device: `cpu`, or a CUDA device that corrects wrong rows while others are read and written;
            the result is the same, bit for bit.
        batch_rows: rows that are sent to a CUDA device at a time.
        progress: called with the units done in this run and their number.
        stop: asked before each unit whether to leave it out, and all that follow.

    Raises:
        StoreError: a chunk of the parent is bad, a row can't be corrected or a file be written.
        UsageError: a correction that the device doesn't know.
    """
    correction = _correction_of(writer).name
    stage = CorrectionStage(
        parent, correction, threads=threads, device=device, batch_rows=batch_rows
    )
    stage.compute(writer.lacking, writer, progress=progress, stop=stop)


class CorrectionStage:
    """A raw store opened to be corrected; its arguments are those of `correct_lacking`.

    Any number of threads may compute at a time, and any number of processes: a unit is a pure map
    of the parent's bytes.
    """

    def __init__(
        self,
        parent: Store,
        correction: str,
        *,
        threads: int = 2,
        device: str = "cpu",
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._parent, self._threads = parent, threads
        self._spare: SimpleQueue[UnitMemory] = SimpleQueue()
        kernel = correction_named(correction)
        for _ in range(threads):
            corrector = row_corrector(kernel, device, batch_rows)
            self._spare.put(UnitMemory.of(parent, kernel, corrector))

    def compute(
        self,
        units: Sequence[Unit],
        sink: UnitSink,
        *,
        progress: Progress = lambda done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[WrittenUnit]:
        """Correct units and write them.

        Args:
            units: which.
            sink: where they go.
            progress: called with the units done and their number.
            stop: asked before each unit whether to leave it out, and all that follow.

        Returns:
            The units written, in order.

        Raises:
            StoreError: as `correct_lacking`.
        """
        written: list[WrittenUnit] = []

        def correct(unit: Unit) -> WrittenUnit | None:
            return None if stop() else self._correct(unit, sink)

        with ThreadPoolExecutor(self._threads) as pool:
            work = [pool.submit(correct, unit) for unit in units]
            try:
                for future in work:
                    one = future.result()
                    if one is not None:
                        written.append(one)
                        progress(len(written), len(work))
            finally:
                pool.shutdown(cancel_futures=True)
        return written

    def _correct(self, unit: Unit, sink: UnitSink) -> WrittenUnit:
        memory = self._spare.get()
        try:
            return correct_unit(self._parent, sink, unit, memory)
        finally:
            self._spare.put(memory)


def seal_corrected(writer: StoreWriter) -> Manifest:
    """Seal a corrected store whose units are all there.

    Raises:
        StoreError: as `StoreWriter.seal`, or a row is wrong after a correction that leaves none so.
    """
    correction, sealed = _correction_of(writer), writer.seal()
    wrong, rows = wrong_rows(sealed.measured)
    if wrong and not correction.changes_values:
        raise StoreError(f"{writer.files.where}: {wrong} of {rows} rows are wrong after correction")
    return sealed


@dataclasses.dataclass(frozen=True)
class UnitMemory:
    """Memory for the rows of one unit, used again for the next, and what corrects them in place.

    `codes` has the arrays that the correction changes, beside `top`.
    """

    codes: Mapping[str, NDArray[Any]]
    top: NDArray[Any]
    correction: EncodedCorrection
    correct: RowCorrector

    @classmethod
    def of(cls, parent: Store, correction: Correction, correct: RowCorrector) -> UnitMemory:
        """Make the memory that a unit of a store needs."""
        encoded = EncodedCorrection.of(correction, parent.encoding, parent.manifest.dataset.classes)
        memory = {
            name: aligned_empty(spec.chunks[1:], spec.dtype)
            for name in (*encoded.arrays, "top")
            for spec in [parent.arrays[name]]
        }
        top = memory.pop("top")
        return cls(memory, top, encoded, correct)


def row_corrector(correction: Correction, device: str, batch_rows: int) -> RowCorrector:
    """Choose what corrects rows: the serial kernel, or batches on a CUDA device.

    Raises:
        UsageError: the device doesn't know the correction.
    """
    if device == "cpu":
        return correction
    from logitbank.stores.corrections.device import DeviceCorrector

    return DeviceCorrector(correction.name, device, batch_rows)


def correct_unit(parent: Store, sink: UnitSink, unit: Unit, memory: UnitMemory) -> WrittenUnit:
    """Read, correct and write one unit; a pure map of the parent's bytes, so it may run twice.

    Raises:
        StoreError: as `correct_lacking`.
    """
    start, stop = block_bounds(parent.manifest, unit.block)
    codes = {name: rows[: stop - start] for name, rows in memory.codes.items()}
    top = memory.top[: stop - start]
    for name, rows in {**codes, "top": top}.items():
        parent.read_block_into(name, unit, rows)
    try:
        memory.correction(codes, top, parent.target[start:stop], memory.correct)
    except BadRowError as error:
        raise error.in_store(parent.where, unit.view, start) from None
    changed = {**codes, "top": top}
    unchanged = {
        spec.name: parent.read_checked(spec.name, unit)
        for spec in unit_arrays(parent.arrays)
        if spec.name not in changed
    }
    return sink.write_unit(unit, {**unchanged, **changed})


def _correction_of(writer: StoreWriter) -> Correction:
    identity = writer.manifest.correction
    assert identity is not None, "corrected_manifest names the correction"
    return correction_named(identity.name)
