"""The slab: one view's soft labels in memory, read once an epoch and gathered from by row.

A row number carries both identities: row = view * N + sample. A slab refuses rows of another view,
and refuses to speak at all once its memory has been given to another one.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from logitbank.stores.errors import LogitbankError
from logitbank.stores.reader import Store


class WrongRowError(LogitbankError):
    """A row that a slab doesn't hold."""


@dataclass(eq=False)
class Slab:
    """The (N, C) codes of one view, on the training device.

    `view` is the view's number; `current` turns false when the memory is to be used again.
    """

    view: int
    codes: torch.Tensor
    current: bool = True

    @property
    def rows(self) -> torch.Tensor:
        """The (N,) int64 row numbers that this slab holds, in dataset order."""
        first = self.view * len(self.codes)
        return torch.arange(first, first + len(self.codes))

    def __getitem__(self, row: torch.Tensor) -> torch.Tensor:
        """Gather soft labels.

        Args:
            row: (B,) int64 row numbers, on any device.

        Returns:
            (B, C) float32 logits on the slab's device.

        Raises:
            WrongRowError: a row belongs to another view, or the slab's memory holds another view
                by now.
        """
        if not self.current:
            raise WrongRowError(
                f"the slab of view {self.view} is no longer in memory: another epoch began since"
            )
        sample = row - self.view * len(self.codes)
        # One pass finds both ends: a negative number is huge as an unsigned one.
        if bool(((sample < 0) | (sample >= len(self.codes))).any()):
            raise self._wrong_row(row, sample)
        sample = sample.to(self.codes.device, non_blocking=True)
        return self.codes.index_select(0, sample).to(torch.float32)

    def _wrong_row(self, row: torch.Tensor, sample: torch.Tensor) -> WrongRowError:
        samples = len(self.codes)
        bad = int(row[(sample < 0) | (sample >= samples)][0])
        return WrongRowError(
            f"row {bad} is sample {bad % samples} of view {bad // samples}, but this epoch's slab "
            f"holds view {self.view}: draw rows from this epoch's slab.rows (a sampler or worker "
            "still has those of another epoch)"
        )


class SlabLoader:
    """Two views' worth of memory that slabs take turns in; the next view is read meanwhile."""

    def __init__(self, store: Store, correction: str | None = None) -> None:
        self._store = store if correction is None else store.corrected_by(correction)
        self._buffers: list[torch.Tensor] = []
        self._slabs: list[Slab | None] = [None, None]
        self._pending: tuple[int, Future[Slab]] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="slab")

    def load(self, view: int, following: int | None, device: torch.device) -> Slab:
        """Give the slab of a view, and begin to read the one that follows.

        Args:
            view: the view wanted now.
            following: the view that will be wanted next, None where there is none.
            device: where the slab is to lie.

        Raises:
            StoreError: a chunk of the view is missing, damaged or belongs elsewhere.
        """
        slab = self._take(view, device)
        if following is not None and self._held(following) is None:
            turn = 1 - self._slabs.index(slab)
            self._retire(turn)
            self._pending = (turn, self._pool.submit(self._read, turn, following, device))
        return slab

    def _take(self, view: int, device: torch.device) -> Slab:
        spare = 0
        if self._pending is not None:
            spare, future = self._pending
            self._pending = None
            self._slabs[spare] = future.result()
        held = self._held(view)
        if held is not None and held.codes.device.type == device.type:
            return held
        self._retire(spare)
        self._slabs[spare] = slab = self._read(spare, view, device)
        return slab

    def _retire(self, turn: int) -> None:
        """Let the slab of one turn go, before any other thread writes to its memory."""
        former = self._slabs[turn]
        if former is not None:
            former.current = False
        self._slabs[turn] = None

    def _held(self, view: int) -> Slab | None:
        return next((slab for slab in self._slabs if slab and slab.view == view), None)

    def _read(self, turn: int, view: int, device: torch.device) -> Slab:
        """Read a view into the memory of one turn."""
        memory = self._memory(turn, device)
        codes: Any = memory.numpy()
        self._store.read_view("logits", view, codes)
        return Slab(view, memory.to(device) if device.type != "cpu" else memory)

    def _memory(self, turn: int, device: torch.device) -> torch.Tensor:
        while len(self._buffers) <= turn:
            spec = self._store.arrays["logits"]
            dtype = getattr(torch, spec.dtype.name)
            pinned = device.type == "cuda"
            self._buffers.append(torch.empty(spec.shape[1:], dtype=dtype, pin_memory=pinned))
        return self._buffers[turn]
