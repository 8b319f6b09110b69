"""The slab: one view's soft labels in memory, read once an epoch and gathered from by row.

A row number carries both identities: row = view * N + sample. A slab refuses rows of another view,
and refuses to speak at all once its memory has been given to another one, by whichever thread.
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
    """A row that a slab doesn't hold."""


@dataclass(eq=False)
class Slab:
    """The encoded rows of one view, on the training device.

    `codes` holds an (N, ...) tensor for each array of the encoding, all on one `device`. `view` is
    the view's number; `current` turns false, for good, before the memory is used again. Any thread
    may gather, and a forked process. Pickled or copied it has memory of its own.
    """

    view: int
    codes: Mapping[str, torch.Tensor]
    encoding: Encoding
    current: bool = True
    device: torch.device = field(init=False)
    _samples: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first = next(iter(self.codes.values()))
        # Kept, since every gather asks for them.
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
            WrongRowError: a row belongs to another view, or the slab's memory holds another view
                by now.
        """
        if not self.current:
            raise self._gone()
        samples = self._samples
        sample = row - self.view * samples
        if bool(((sample < 0) | (sample >= samples)).any()):
            raise self._wrong_row(row, sample)
        gathered = self._gathered(sample)
        # Asked once more instead of locked: memory is written to only after `current` has turned
        # false, so what was gathered while it was true is of this view.
        if not self.current:
            raise self._gone()
        return gathered

    def _gathered(self, sample: torch.Tensor) -> torch.Tensor:
        device = self.device
        # On the CPU, numbers that come from a GPU are waited for: else they would be read before
        # they are here.
        sample = sample.to(device, non_blocking=device.type != "cpu")
        if device.type == "cuda":
            # The gather is only queued: until this stream is through with it, the memory of a slab
            # that nobody holds any more is no other tensor's.
            stream = torch.cuda.current_stream(device)
            for codes in self.codes.values():
                codes.record_stream(stream)
        gathered = {name: codes.index_select(0, sample) for name, codes in self.codes.items()}
        return self.encoding.decode_tensors(gathered)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy with other memory.

        torch moves what it sends to a process into memory that both share, where the sender's next
        view would follow.

        Raises:
            WrongRowError: the slab's memory holds another view by now.
        """
        codes = {name: tensor.clone() for name, tensor in self.codes.items()}
        if not self.current:
            raise self._gone()
        return type(self), (self.view, codes, self.encoding)

    def _gone(self) -> WrongRowError:
        return WrongRowError(
            f"the slab of view {self.view} is no longer in memory: another epoch began since"
        )

    def _wrong_row(self, row: torch.Tensor, sample: torch.Tensor) -> WrongRowError:
        samples = self._samples
        bad = int(row[(sample < 0) | (sample >= samples)][0])
        return WrongRowError(
            f"row {bad} is sample {bad % samples} of view {bad // samples}, but this epoch's slab "
            f"holds view {self.view}: draw rows from this epoch's slab.rows (a sampler or worker "
            "still has those of another epoch)"
        )


@dataclass(eq=False)
class _LoadedView:
    """A view in the host's memory, and its slabs: one for each device that it was wanted on."""

    view: int
    memory: Mapping[str, torch.Tensor]
    encoding: Encoding
    slabs: dict[torch.device, Slab] = field(default_factory=dict)

    def slab(self, device: torch.device) -> Slab:
        """Return the slab on a device; on the CPU it lies in the host's memory itself."""
        if device not in self.slabs:
            # Not `non_blocking`, from pinned memory either: it is used again once this is done.
            codes = {name: tensor.to(device) for name, tensor in self.memory.items()}
            self.slabs[device] = Slab(self.view, codes, self.encoding)
        return self.slabs[device]


class SlabLoader:
    """Two views' worth of memory that slabs take turns in; the next view is read meanwhile.

    Any thread may load. A forked process has none of the threads that its parent reads with: it
    begins anew, with memory of its own, and what the parent has in memory stays as it is.
    """

    def __init__(self, store: Store, correction: str | None = None) -> None:
        self._store = store if correction is None else store.corrected_by(correction)
        self._locks: dict[int, threading.Lock] = {}
        self._begin()

    def _begin(self) -> None:
        """Begin with nothing in memory, in this process."""
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="slab")
        self._loaded: list[_LoadedView] = []
        self._ahead: tuple[int, Future[_LoadedView]] | None = None
        # Memory is here, in a loaded view, or in the hands of who reads into it; never in two.
        self._spare: list[Mapping[str, torch.Tensor]] = []

    def load(self, view: int, following: int | None, device: torch.device) -> Slab:
        """Return the slab of a view, and begin to read the one that follows.

        Args:
            view: the view wanted now.
            following: the view that will be wanted next, None where there is none.
            device: where the slab is to lie.

        Raises:
            StoreError: a chunk of the view is missing, damaged or belongs elsewhere.
        """
        # `cuda` is the calling thread's current one, which another thread doesn't know.
        device = torch.empty(0, device=device).device
        process = os.getpid()
        # One for each process: a lock that was held as a process was forked stays shut in there.
        with self._locks.setdefault(process, threading.Lock()):
            if self._process != process:
                self._begin()
                # OpenMP's threads are not in a forked process either, and torch would wait for
                # them for ever. DataLoader does this in its workers.
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
        """Begin to read a view, where all may be overwritten but the one that is used."""
        if self._ahead is not None:
            if self._ahead[0] == view:
                return
            self._end_read_ahead(None)
        for former in [each for each in self._loaded if each is not used]:
            self._retire(former)
        memory = self._memory(device)
        self._ahead = view, self._pool.submit(_read, self._store, view, memory, device)

    def _end_read_ahead(self, wanted: int | None) -> _LoadedView | None:
        """Wait for the view that is read ahead; give it if it is wanted, else take its memory.

        Raises:
            StoreError: it is wanted, and can't be read. It is read anew when it is asked for again.
        """
        assert self._ahead is not None, "asked before"
        view, reading = self._ahead
        error = reading.exception()  # Where this is interrupted, the view is still read ahead.
        self._ahead = None
        if view == wanted:
            self._loaded.append(reading.result())
            return self._loaded[-1]
        if error is None:
            self._spare.append(reading.result().memory)
        return None

    def _retire(self, former: _LoadedView) -> None:
        """Let a view's slabs go, before anybody writes to their memory."""
        self._loaded.remove(former)
        for slab in former.slabs.values():
            slab.current = False
        self._spare.append(former.memory)

    def _held(self, view: int) -> _LoadedView | None:
        return next((each for each in self._loaded if each.view == view), None)

    def _memory(self, device: torch.device) -> Mapping[str, torch.Tensor]:
        """Take memory for a view; where a reading fails or is interrupted, it doesn't come back."""
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
    """Read a view into memory, and from there onto the device."""
    store.read_codes(view, {name: tensor.numpy() for name, tensor in memory.items()})
    loaded = _LoadedView(view, memory, store.encoding)
    loaded.slab(device)
    return loaded
