"""Sort and swap in batched torch: bit for bit the same as the row kernels, on any device.

Only wrong rows are touched. Rows in host memory go to the device in batches through two pairs of
pinned buffers, so that one batch is gathered while another is corrected and a third comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.stores.corrections.bad_rows import BadRowError
from logitbank.stores.corrections.kernels import check_rows
from logitbank.stores.errors import UsageError, unknown_name

BUFFERS = 2
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}

TensorKernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


def correct_tensors(
    name: str, codes: torch.Tensor, top: torch.Tensor, target: torch.Tensor
) -> None:
    """Correct rows in place, on their device.

    Args:
        name: `sort` or `swap`.
        codes: (B, C) float32, float16 or uint8, contiguous.
        top: (B, K) uint8 or uint16, contiguous; corrected too.
        target: (B,) labels of any integer dtype, on the same device.

    Raises:
        UsageError: another correction.
        BadRowError: a row has a NaN, or names a class that does not exist; nothing has changed.
    """
    kernel = tensor_kernel(name)
    if codes.is_floating_point():
        bad = codes.isnan().any(dim=1)
        if bool(bad.any()):
            raise BadRowError(int(bad.nonzero()[0]), "has a NaN among its logits")
    labels = target.to(torch.int64)
    order = _as_integers(top)
    wrong = (_classes(order[:, 0]) != labels).nonzero().flatten()
    rows, known = codes[wrong], _classes(order[wrong])
    foreign = (known >= codes.shape[1]).any(dim=1)
    if bool(foreign.any()):
        raise BadRowError(int(wrong[foreign][0]), "names a class in `top` that does not exist")
    kernel(rows, known, labels[wrong])
    codes[wrong] = rows
    order[wrong] = known.to(order.dtype)


class DeviceCorrector:
    """Corrects rows in host memory on a device, a batch at a time.

    Not thread-safe: each thread needs its own.

    Args:
        name: `sort` or `swap`.
        device: a torch device; pinned memory and streams are only used for CUDA.
        batch_rows: the number of wrong rows in a batch.

    Raises:
        UsageError: another correction, or an unknown device.
    """

    def __init__(self, name: str, device: str, batch_rows: int) -> None:
        self._kernel = tensor_kernel(name)
        try:
            self._device = torch.device(device)
        except RuntimeError as error:
            raise UsageError(f"unknown torch device {device!r}") from error
        self._batch_rows = batch_rows
        self._buffers: list[_Buffer] = []

    def __call__(self, codes: NDArray[Any], top: NDArray[Any], target: NDArray[np.int32]) -> None:
        """Correct (B, C) codes and (B, K) `top` of (B,) labels in place, copying wrong rows only.

        Raises:
            BadRowError: a row has a NaN, or names a class that does not exist; nothing has changed.
        """
        check_rows(codes, top, target)
        wrong = np.flatnonzero(top[:, 0] != target)
        buffers = self._buffers_for(codes, top)
        for turn, start in enumerate(range(0, len(wrong), self._batch_rows)):
            buffer = buffers[turn % BUFFERS]
            buffer.finish(codes, top)
            rows = wrong[start : start + self._batch_rows]
            buffer.start(self._kernel, rows, codes, top, target)
        for buffer in buffers:
            buffer.finish(codes, top)

    def _buffers_for(self, codes: NDArray[Any], top: NDArray[Any]) -> list[_Buffer]:
        """Return the buffers of the last call if they fit, else new ones."""
        shape = (codes.shape[1], codes.dtype, top.shape[1], top.dtype)
        if not self._buffers or self._buffers[0].shape != shape:
            self._buffers = [
                _Buffer.of(self._batch_rows, codes, top, self._device) for _ in range(BUFFERS)
            ]
        return self._buffers


@dataclass
class _Buffer:
    """Memory for one batch in flight: rows in host memory (pinned for CUDA), and a stream."""

    codes: torch.Tensor
    top: torch.Tensor
    labels: torch.Tensor
    shape: tuple[int, np.dtype[Any], int, np.dtype[Any]]
    device: torch.device
    stream: torch.cuda.Stream | None
    rows: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, rows: int, codes: NDArray[Any], top: NDArray[Any], device: torch.device) -> _Buffer:
        cuda = device.type == "cuda"
        width, known = codes.shape[1], top.shape[1]
        return cls(
            torch.empty((rows, width), dtype=_INTEGERS[codes.itemsize], pin_memory=cuda),
            torch.empty((rows, known), dtype=_INTEGERS[top.itemsize], pin_memory=cuda),
            torch.empty(rows, dtype=torch.int32, pin_memory=cuda),
            (width, codes.dtype, known, top.dtype),
            device,
            torch.cuda.Stream(device) if cuda else None,
        )

    def start(
        self,
        kernel: TensorKernel,
        rows: NDArray[np.int64],
        codes: NDArray[Any],
        top: NDArray[Any],
        target: NDArray[np.int32],
    ) -> None:
        """Gather wrong rows and correct them on the device, without waiting for it."""
        count = len(rows)
        for memory, source in ((self.codes, codes), (self.top, top), (self.labels, target)):
            kind = memory.numpy().dtype
            np.take(source.view(kind), rows, axis=0, out=memory.numpy()[:count], mode="clip")
        with torch.cuda.stream(self.stream):
            there = self.codes[:count].to(self.device, non_blocking=True)
            order = self.top[:count].to(self.device, non_blocking=True)
            known = _classes(order)
            labels = self.labels[:count].to(self.device, non_blocking=True).to(torch.int64)
            kernel(_as_floats(there, self.shape[1]), known, labels)
            self.codes[:count].copy_(there, non_blocking=True)
            self.top[:count].copy_(known.to(order.dtype), non_blocking=True)
        self.rows = rows

    def finish(self, codes: NDArray[Any], top: NDArray[Any]) -> None:
        """Wait for the batch in flight, if there is one, and put its rows back."""
        if self.rows is None:
            return
        if self.stream is not None:
            self.stream.synchronize()
        count = len(self.rows)
        for memory, home in ((self.codes, codes), (self.top, top)):
            values = memory.numpy()[:count]
            home.view(values.dtype)[self.rows] = values
        self.rows = None


def tensor_kernel(name: str) -> TensorKernel:
    """Return the torch kernel of a correction.

    Raises:
        UsageError: the correction is only defined on the CPU.
    """
    kernels = {"sort": _sort, "swap": _swap}
    if name not in kernels:
        raise unknown_name("correction for a device other than the CPU", name, kernels)
    return kernels[name]


def _swap(codes: torch.Tensor, top: torch.Tensor, labels: torch.Tensor) -> None:
    """Swap wrong rows in place: (W, C) codes, (W, K) int64 classes, (W,) labels."""
    bits, label, largest = _as_integers(codes), labels[:, None], top[:, :1].clone()
    held, most = bits.gather(1, label), bits.gather(1, largest)
    bits.scatter_(1, label, most)
    bits.scatter_(1, largest, held)
    top.copy_(torch.where(top == label, largest, top))
    top[:, :1] = label


def _sort(codes: torch.Tensor, top: torch.Tensor, labels: torch.Tensor) -> None:
    """Sort wrong rows in place; arguments as `_swap`."""
    hits = top == labels[:, None]
    known = hits.any(dim=1)
    place = torch.where(known, hits.to(torch.int8).argmax(dim=1), top.shape[1])
    bits = _as_integers(codes)
    order, count = top, place
    beyond = (~known).nonzero().flatten()
    if len(beyond):
        rest, more = _rest_above(codes[beyond], top[beyond], labels[beyond])
        order = torch.cat([top, labels[:, None].expand(-1, rest.shape[1])], dim=1)
        order[beyond, top.shape[1] :] = rest
        count = place.index_add(0, beyond, more)
    _move_down(bits, order, count, labels)
    ranks = torch.arange(top.shape[1], device=top.device)
    shifted = top.roll(1, dims=1)
    shifted[:, 0] = labels
    top.copy_(torch.where(ranks <= place[:, None], shifted, top))


def _move_down(
    bits: torch.Tensor, order: torch.Tensor, count: torch.Tensor, labels: torch.Tensor
) -> None:
    """Move values down: each of the first `count` classes in a row's order takes the next one's
    value, and the label takes the first; (W, C) codes, (W, R) classes, (W,) counts, (W,) labels.
    """
    label = labels[:, None]
    ranks = torch.arange(order.shape[1], device=order.device)
    # The label follows the classes above it. The places after that are not to change, so they name
    # the label too, and all of them write the same value.
    chain = torch.cat([torch.where(ranks < count[:, None], order, label), label], dim=1)
    values = bits.gather(1, chain)
    moved = torch.where(ranks < count[:, None], values[:, 1:], values[:, :1])
    bits.scatter_(1, chain, torch.cat([moved, values[:, :1]], dim=1))


def _rest_above(
    codes: torch.Tensor, top: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the classes between `top` and the label, in order.

    Returns:
        (W, R) classes, followed by the label as padding, and the (W,) number of them in each row.
    """
    keys, label = _keys(codes), labels[:, None]
    classes = torch.arange(codes.shape[1], device=codes.device)
    own = keys.gather(1, label)
    above = (keys > own) | ((keys == own) & (classes < label))
    above.scatter_(1, top, False)
    count = above.sum(dim=1)
    width = int(count.max())
    last = torch.iinfo(torch.int64).max
    packed = torch.where(above, -keys * 65536 + classes, last)
    smallest = packed.topk(width, dim=1, largest=False, sorted=True).values
    return torch.where(smallest == last, label, smallest & 65535), count


def _keys(codes: torch.Tensor) -> torch.Tensor:
    """Map codes to int64 keys of the same order, with -0 equal to +0."""
    wide = _as_integers(codes).to(torch.int64)
    if not codes.is_floating_point():
        return wide
    magnitude = (1 << (8 * codes.itemsize - 1)) - 1
    return torch.where(wide >= 0, wide, -(wide & magnitude))


def _as_integers(tensor: torch.Tensor) -> torch.Tensor:
    """View codes, or classes of a dtype that torch can't compute with, as integers."""
    return tensor.view(_INTEGERS[tensor.itemsize])


def _as_floats(bits: torch.Tensor, dtype: np.dtype[Any]) -> torch.Tensor:
    return bits if dtype.kind != "f" else bits.view(getattr(torch, dtype.name))


def _classes(order: torch.Tensor) -> torch.Tensor:
    """Return classes as int64; those of 16 bits are unsigned, whatever their torch dtype."""
    return order.to(torch.int64) & (0xFFFF if order.itemsize == 2 else -1)
