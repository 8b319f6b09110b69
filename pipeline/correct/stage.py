"""Correcting units: read, corrected in place and written, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.store_task import Write, ignore_rows, never
from logitbank.stores.corrections import BadRowError, Correction, correction_named
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.memory import aligned_empty
from logitbank.stores.reader import Store
from logitbank.stores.units import WrittenUnit
from logitbank.stores.writer import unit_rows

BATCH_ROWS = 16_384

RowCorrector = Callable[[NDArray[Any], NDArray[Any], NDArray[np.int32]], None]
"""Corrects (codes, top, target) in place."""


class CorrectionStage:
    """A raw store opened to be corrected.

    Any number of processes may compute at a time: a unit is a pure map of the parent's bytes.

    Args:
        parent: the raw store.
        correction: its name.
        threads: how many units are read, corrected and written at a time.
        device: `cpu`, or a CUDA device that corrects wrong rows while others are read and written;
            the result is the same, bit for bit.
        batch_rows: rows that are sent to a CUDA device at a time.

    Raises:
        UsageError: there is no such correction.
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
        self.parent, self.correction = parent, correction_named(correction)
        self._threads, self._device, self._batch_rows = threads, device, batch_rows

    def require_device(self) -> None:
        """Check that the device is there and knows the correction.

        Raises:
            UsageError: it isn't, or doesn't.
        """
        if self._device != "cpu":
            row_corrector(self.correction, self._device, self._batch_rows)

    def compute(
        self,
        units: Iterable[Unit],
        write: Write,
        *,
        progress: Callable[[int], None] = ignore_rows,
        stop: Callable[[], bool] = never,
    ) -> list[WrittenUnit]:
        """Correct units and write them.

        Args:
            units: which.
            write: called with each unit and its arrays, from `threads` threads.
            progress: called with the number of rows that have just been corrected.
            stop: asked before each unit whether to leave it out, and all that follow.

        Returns:
            What `write` returned, in order.

        Raises:
            StoreError: a chunk of the parent is bad, a row can't be corrected or a file be written.
            UsageError: the device is not there, or doesn't know the correction.
        """
        written: list[WrittenUnit] = []
        spare = self._spare

        def correct(unit: Unit) -> WrittenUnit | None:
            if stop():
                return None
            memory = spare.get()
            try:
                return write(unit, corrected_unit(self.parent, unit, memory))
            finally:
                spare.put(memory)

        with ThreadPoolExecutor(self._threads) as pool:
            work = [pool.submit(correct, unit) for unit in units]
            try:
                for future in work:
                    one = future.result()
                    if one is not None:
                        written.append(one)
                        progress(unit_rows([one.unit], self.parent.manifest))
            finally:
                pool.shutdown(cancel_futures=True)
        return written

    @cached_property
    def _spare(self) -> SimpleQueue[UnitMemory]:
        """Memory for a unit a thread."""
        spare: SimpleQueue[UnitMemory] = SimpleQueue()
        for _ in range(self._threads):
            corrector = row_corrector(self.correction, self._device, self._batch_rows)
            spare.put(UnitMemory.of(self.parent, corrector))
        return spare


@dataclass(frozen=True)
class UnitMemory:
    """Memory for the rows of one unit, used again for the next, and what corrects them in place."""

    codes: NDArray[Any]
    top: NDArray[Any]
    correct: RowCorrector

    @classmethod
    def of(cls, parent: Store, correct: RowCorrector) -> UnitMemory:
        """Make the memory that a unit of a store needs."""
        codes, top = (parent.arrays[name] for name in ("logits", "top"))
        return cls(
            aligned_empty(codes.chunks[1:], codes.dtype),
            aligned_empty(top.chunks[1:], top.dtype),
            correct,
        )


def row_corrector(correction: Correction, device: str, batch_rows: int) -> RowCorrector:
    """Choose what corrects rows: the serial kernel, or batches on a CUDA device.

    Raises:
        UsageError: there is no such device, or it doesn't know the correction.
    """
    if device == "cpu":
        return correction
    # The CPU's kernels need no torch.
    from logitbank.pipeline.devices import usable_device
    from logitbank.stores.corrections.device import DeviceCorrector, tensor_kernel

    tensor_kernel(correction.name)
    return DeviceCorrector(correction.name, str(usable_device(device)), batch_rows)


def corrected_unit(parent: Store, unit: Unit, memory: UnitMemory) -> dict[str, Any]:
    """Read and correct one unit; a pure map of the parent's bytes, so it may run twice.

    Returns:
        For each array that a unit writes its rows, or the parent's own chunk; `top` and `logits`
        lie in the memory.

    Raises:
        StoreError: a chunk of the parent is bad, or a row can't be corrected.
    """
    start, stop = block_bounds(parent.manifest, unit.block)
    codes, top = memory.codes[: stop - start], memory.top[: stop - start]
    parent.read_block_into("logits", unit, codes)
    parent.read_block_into("top", unit, top)
    try:
        memory.correct(codes, top, parent.target[start:stop])
    except BadRowError as error:
        raise error.in_store(parent.where, unit.view, start) from None
    unchanged = {name: parent.read_checked(name, unit) for name in ("view_params", "pixel_crc")}
    return {**unchanged, "top": top, "logits": codes}
