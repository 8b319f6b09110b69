"""The correction stage: units are read, corrected in place and written, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.correct.manifest import wrong_rows
from logitbank.pipeline.store_task import Write, ignore_rows, never
from logitbank.stores.corrections import (
    BadRowError,
    Correction,
    EncodedCorrection,
    RowCorrector,
    correction_named,
)
from logitbank.stores.errors import StoreError
from logitbank.stores.files.buffers import aligned_empty
from logitbank.stores.layout import Unit, block_bounds, unit_arrays
from logitbank.stores.manifest import Manifest, Measured
from logitbank.stores.reader import Store
from logitbank.stores.units import UnitGroup, UnitWriter
from logitbank.stores.writer import StoreWriter, unit_rows

if TYPE_CHECKING:
    from logitbank.pipeline.correct.task import CorrectionTask

BATCH_ROWS = 16_384


class CorrectionStage:
    """A `CorrectionTask` opened in a process.

    Any number of processes may compute at a time: a unit is a pure function of the parent's bytes.

    Args:
        task: the task whose units are computed.
        parent: the raw store.
        threads: how many units are read, corrected and written at a time.

    Raises:
        UsageError: the correction is unknown.
    """

    def __init__(self, task: CorrectionTask, parent: Store, threads: int) -> None:
        self._task, self._parent, self._threads = task, parent, threads
        self._correction = correction_named(task.correction)

    @property
    def samples(self) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Return (N,) labels and (N,) ids of the raw store."""
        return self._parent.target, self._parent.sample_id

    def groups(self, units: Iterable[Unit]) -> list[UnitGroup]:
        """Return each unit as a group of its own."""
        return [(unit,) for unit in units]

    def require_sources(self, units: Iterable[Unit]) -> None:
        """Check that the raw store has the chunks that some units are made from.

        Raises:
            StoreError: one is missing or of another size.
        """
        names = [spec.name for spec in reversed(unit_arrays(self._parent.arrays))]
        self._parent.require_chunks(names, {unit.view for unit in units})

    def check(self) -> Measured:
        """Check that the device exists and supports the correction.

        Raises:
            UsageError: it does not.
        """
        if self._task.device != "cpu":
            self._corrector()
        return self._task.manifest.measured

    def is_checked(self, measured: Measured) -> bool:
        """Return True: `check` measures nothing."""
        return True

    def require_begun(self, measured: Measured) -> None:
        """Do nothing: the parent's digest is in the manifest's identity."""

    def require_samples(self, store: UnitWriter, units: Iterable[Unit]) -> None:
        """Do nothing: the parent's digest covers its samples."""

    def close(self) -> None:
        """Leave the parent open for whoever opened it."""

    def compute(
        self,
        groups: Iterable[UnitGroup],
        write: Write,
        *,
        progress: Callable[[int], None] = ignore_rows,
        stop: Callable[[], bool] = never,
    ) -> None:
        """Correct units and write them, `threads` at a time.

        Raises:
            StoreError: a chunk of the parent is damaged, a row can't be corrected, or a file can't
                be written.
            UsageError: the device does not exist or does not support the correction.
        """
        spare = self._spare

        def correct(unit: Unit) -> int:
            if stop():
                return 0
            memory = spare.get()
            try:
                write(unit, corrected_unit(self._parent, unit, memory))
            finally:
                spare.put(memory)
            return unit_rows([unit], self._parent.manifest)

        with ThreadPoolExecutor(self._threads) as pool:
            work = [pool.submit(correct, unit) for group in groups for unit in group]
            try:
                for future in work:
                    progress(future.result())
            finally:
                pool.shutdown(cancel_futures=True)

    def seal(self, writer: StoreWriter) -> Manifest:
        """Seal the store.

        Raises:
            StoreError: as `StoreWriter.seal`, or rows are still wrong after a correction that
                should leave none.
        """
        sealed = writer.seal()
        wrong, rows = wrong_rows(sealed.measured)
        if wrong and not self._correction.changes_values:
            raise StoreError(
                f"{writer.files.where}: {wrong} of {rows} rows are wrong after correction"
            )
        return sealed

    @cached_property
    def _spare(self) -> SimpleQueue[UnitMemory]:
        """Return a queue with the memory for one unit per thread."""
        spare: SimpleQueue[UnitMemory] = SimpleQueue()
        for _ in range(self._threads):
            spare.put(UnitMemory.of(self._parent, self._correction, self._corrector()))
        return spare

    def _corrector(self) -> RowCorrector:
        return row_corrector(self._correction, self._task.device, self._task.batch_rows)


@dataclass(frozen=True)
class UnitMemory:
    """Memory for the rows of one unit, reused for the next, and what corrects them in place."""

    codes: Mapping[str, NDArray[Any]]
    top: NDArray[Any]
    correction: EncodedCorrection
    correct: RowCorrector

    @classmethod
    def of(cls, parent: Store, correction: Correction, correct: RowCorrector) -> UnitMemory:
        """Allocate memory for the arrays of a unit that a correction changes."""
        classes = parent.manifest.dataset.classes
        encoded = EncodedCorrection.of(correction, parent.encoding, classes)
        memory = {
            name: aligned_empty(parent.arrays[name].chunks[1:], parent.arrays[name].dtype)
            for name in (*encoded.arrays, "top")
        }
        return cls(memory, memory.pop("top"), encoded, correct)


def row_corrector(correction: Correction, device: str, batch_rows: int) -> RowCorrector:
    """Return what corrects rows: the serial kernel, or batches on a CUDA device.

    Raises:
        UsageError: the device does not exist or does not support the correction.
    """
    if device == "cpu":
        return correction
    # The CPU's kernels need no torch.
    from logitbank.pipeline.devices import usable_device
    from logitbank.stores.corrections.device import DeviceCorrector, tensor_kernel

    tensor_kernel(correction.name)
    return DeviceCorrector(correction.name, str(usable_device(device)), batch_rows)


def corrected_unit(parent: Store, unit: Unit, memory: UnitMemory) -> dict[str, Any]:
    """Read and correct one unit; a pure function of the parent's bytes, so it may run twice.

    Returns:
        The rows of each array that a unit writes, or the parent's own chunk where nothing changes;
        corrected rows lie in `memory`.

    Raises:
        StoreError: a chunk of the parent is damaged, or a row can't be corrected.
    """
    start, stop = block_bounds(parent.manifest, unit.block)
    codes = {name: rows[: stop - start] for name, rows in memory.codes.items()}
    top = memory.top[: stop - start]
    changed = {**codes, "top": top}
    for name, rows in changed.items():
        parent.read_unit_into(name, unit, rows)
    try:
        memory.correction(codes, top, parent.target[start:stop], memory.correct)
    except BadRowError as error:
        raise error.in_store(parent.where, unit.view, start) from None
    unchanged = {
        spec.name: parent.read_checked(spec.name, unit)
        for spec in unit_arrays(parent.arrays)
        if spec.name not in changed
    }
    return {**unchanged, **changed}
