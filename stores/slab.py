"""The slab: the soft labels of one view in memory, read once per epoch and gathered by row.

A row number identifies both view and sample: row = view * N + sample. A slab refuses rows of other
views, and refuses all rows once its memory is reused for another view, by whichever thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from logitbank.stores.encodings import Encoding
from logitbank.stores.errors import LogitbankError
from logitbank.stores.reader import Store


class WrongRowError(LogitbankError):
    """A row that the slab does not hold."""


@dataclass(eq=False)
class Slab:
    """The encoded rows of one view, on the training device.

    `codes` holds an (N, ...) tensor for each array of the encoding, all on one `device`. `view` is
    the view's number. `current` becomes false, for good, before the memory is reused. Any thread
    or forked process may gather. A pickled or copied slab has memory of its own.
    """

    view: int
    codes: Mapping[str, torch.Tensor]
    encoding: Encoding
    current: bool = True
    device: torch.device = field(init=False)
    _samples: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first = next(iter(self.codes.values()))
        # Computed once, since every gather needs them.
        self.device, self._samples = first.device, len(first)

    def __len__(self) -> int:
        """Return N, the number of rows."""
        return self._samples

    @property
    def rows(self) -> torch.Tensor:
        """The (N,) int64 row numbers that this slab holds, in dataset order."""
        first = self.view * self._samples
        return torch.arange(first, first + self._samples)

    def __getitem__(self, row: torch.Tensor) -> torch.Tensor:
        """Gather soft labels.

        Args:
            row: (B,) int64 row numbers, on any device.

        Returns:
            (B, C) float32 logits on the slab's device.

        Raises:
            WrongRowError: a row belongs to another view, or the slab's memory has been reused for
                another view.
        """
        if not self.current:
            raise self._gone()
        samples = self._samples
        sample = row - self.view * samples
        if bool(((sample < 0) | (sample >= samples)).any()):
            raise self._wrong_row(row, sample)
        gathered = self._gathered(sample)
        # Checked again instead of locking: memory is only overwritten after `current` has become
        # false, so rows that were gathered while it was true are of this view.
        if not self.current:
            raise self._gone()
        return gathered

    def _gathered(self, sample: torch.Tensor) -> torch.Tensor:
        device = self.device
        # Row numbers that come from a GPU to the CPU must be waited for: otherwise they would be
        # read before they arrive.
        sample = sample.to(device, non_blocking=device.type != "cpu")
        if device.type == "cuda":
            # The gather is only queued: if the slab is freed meanwhile, its memory must not go to
            # another tensor before this stream has finished.
            stream = torch.cuda.current_stream(device)
            for codes in self.codes.values():
                codes.record_stream(stream)
        gathered = {name: codes.index_select(0, sample) for name, codes in self.codes.items()}
        return self.encoding.decode_tensors(gathered)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy with memory of its own.

        torch moves tensors sent to another process into shared memory, which the sender would
        overwrite with its next view.

        Raises:
            WrongRowError: the slab's memory has been reused for another view.
        """
        codes = {name: tensor.clone() for name, tensor in self.codes.items()}
        if not self.current:
            raise self._gone()
        return type(self), (self.view, codes, self.encoding)

    def _gone(self) -> WrongRowError:
        return WrongRowError(
            f"the slab of view {self.view} is no longer in memory: another epoch has begun"
        )

    def _wrong_row(self, row: torch.Tensor, sample: torch.Tensor) -> WrongRowError:
        samples = self._samples
        bad = int(row[(sample < 0) | (sample >= samples)][0])
        return WrongRowError(
            f"row {bad} is sample {bad % samples} of view {bad // samples}, but this epoch's slab "
            f"holds view {self.view}: take rows from this epoch's slab.rows (a sampler or worker "
            "still has those of another epoch)"
        )


@dataclass(eq=False)
class _LoadedView:
    """A view in host memory, and its slabs, one for each device that needed it."""

    view: int
    memory: Mapping[str, torch.Tensor]
    encoding: Encoding
    slabs: dict[torch.device, Slab] = field(default_factory=dict)

    def slab(self, device: torch.device) -> Slab:
        """Return the slab on a device; on the CPU it uses the host memory itself."""
        if device not in self.slabs:
            # Not `non_blocking`, even from pinned memory, which may be reused after this.
            codes = {name: tensor.to(device) for name, tensor in self.memory.items()}
            self.slabs[device] = Slab(self.view, codes, self.encoding)
        return self.slabs[device]


class SlabLoader:
    """Loads slabs into memory for two views, which take turns, reading the next view ahead.

    Any thread may load. A forked process does not inherit the thread that reads ahead: it starts
    afresh with memory of its own, and the parent's memory is left untouched.
    """

    def __init__(self, store: Store, correction: str | None = None) -> None:
        self._store = store if correction is None else store.corrected_by(correction)
        self._locks: dict[int, threading.Lock] = {}
        self._begin()

    def _begin(self) -> None:
        """Start afresh in this process, with nothing in memory."""
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="slab")
        self._loaded: list[_LoadedView] = []
        self._ahead: tuple[int, Future[_LoadedView]] | None = None
        # Memory is either here, in a loaded view, or being read into: never in two of these.
        self._spare: list[Mapping[str, torch.Tensor]] = []

    def load(self, view: int, following: int | None, device: torch.device) -> Slab:
        """Return the slab of a view, and start reading the next view ahead.

        Args:
            view: the view needed now.
            following: the view needed next, if any.
            device: the device for the slab.

        Raises:
            StoreError: a chunk of the view is missing, damaged or belongs elsewhere.
        """
        # `cuda` means the calling thread's current device, which another thread doesn't know.
        device = torch.empty(0, device=device).device
        process = os.getpid()
        # One for each process: a lock that is held during a fork stays locked in the child.
        with self._locks.setdefault(process, threading.Lock()):
            if self._process != process:
                self._begin()
                # A forked process doesn't inherit OpenMP's threads either, and torch would wait for
                # them forever. DataLoader does the same in its workers.
                torch.set_num_threads(1)
            loaded = self._take(view, device)
            slab = loaded.slab(device)
            if following is not None and self._held(following) is None:
                self._read_ahead(following, loaded, device)
            return slab

    def _take(self, view: int, device: torch.device) -> _LoadedView:
        loaded = self._held(view)
        if loaded is None and self._ahead is not None:
            loaded = self._end_read_ahead(view)
        if loaded is None:
            for former in self._loaded[:-1]:
                self._retire(former)
            loaded = _read(self._store, view, self._memory(device), device)
            self._loaded.append(loaded)
        return loaded

    def _read_ahead(self, view: int, used: _LoadedView, device: torch.device) -> None:
        """Start reading a view ahead, which may overwrite all but the one in use."""
        if self._ahead is not None:
            if self._ahead[0] == view:
                return
            self._end_read_ahead(None)
        for former in [each for each in self._loaded if each is not used]:
            self._retire(former)
        memory = self._memory(device)
        self._ahead = view, self._pool.submit(_read, self._store, view, memory, device)

    def _end_read_ahead(self, wanted: int | None) -> _LoadedView | None:
        """Wait for the view being read ahead; return it if it is wanted, else reclaim its memory.

        Raises:
            StoreError: it is wanted but can't be read; the next request reads it again.
        """
        assert self._ahead is not None, "checked by the caller"
        view, reading = self._ahead
        error = reading.exception()  # If interrupted here, the view is still being read.
        self._ahead = None
        if view == wanted:
            self._loaded.append(reading.result())
            return self._loaded[-1]
        if error is None:
            self._spare.append(reading.result().memory)
        return None

    def _retire(self, former: _LoadedView) -> None:
        """Invalidate a view's slabs before their memory is reused."""
        self._loaded.remove(former)
        for slab in former.slabs.values():
            slab.current = False
        self._spare.append(former.memory)

    def _held(self, view: int) -> _LoadedView | None:
        return next((each for each in self._loaded if each.view == view), None)

    def _memory(self, device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return memory for a view; if reading into it fails or is interrupted, it is dropped."""
        if self._spare:
            return self._spare.pop()
        is_pinned = device.type == "cuda"
        return {
            spec.name: torch.empty(
                spec.shape[1:],
                dtype=getattr(torch, spec.dtype.name),
                device="cpu",
                pin_memory=is_pinned,
            )
            for spec in map(self._store.arrays.__getitem__, self._store.row_arrays)
        }


def _read(
    store: Store, view: int, memory: Mapping[str, torch.Tensor], device: torch.device
) -> _LoadedView:
    """Read a view into memory, and copy it to the device."""
    store.read_codes(view, {name: tensor.numpy() for name, tensor in memory.items()})
    loaded = _LoadedView(view, memory, store.encoding)
    loaded.slab(device)
    return loaded
