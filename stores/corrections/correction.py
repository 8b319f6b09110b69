"""A correction: a named map of rows, in place or into new memory, on one or more threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.corrections.bad_rows import BadRowError
from logitbank.stores.errors import UsageError


class RowKernel(Protocol):
    """Corrects (codes, top, target) into (out, out_top), which may be the same memory."""

    def __call__(
        self,
        codes: NDArray[Any],
        top: NDArray[Any],
        target: NDArray[np.int32],
        out: NDArray[Any],
        out_top: NDArray[Any],
        *,
        every_row: bool,
    ) -> None:
        """See `kernels.swap_rows`."""


CODES = tuple(map(np.dtype, ("float32", "float16", "uint8")))


@dataclass(frozen=True)
class Correction:
    """A correction of wrong rows; right rows stay as they are, bit for bit.

    `changes_values` is true if it does more than move a row's values between classes, so that it
    can't act on codes that stand for values (`EncodedCorrection` decodes them first);
    `temperature` is the one it acts at, None if its result is the same at any.
    """

    name: str
    kernel: RowKernel
    changes_values: bool = False
    temperature: float | None = None

    def __call__(
        self,
        codes: NDArray[Any],
        top: NDArray[Any],
        target: NDArray[np.int32],
        *,
        out: tuple[NDArray[Any], NDArray[Any]] | None = None,
        threads: int = 1,
        every_row: bool = True,
    ) -> None:
        """Correct rows, in place unless `out` is given.

        Args:
            codes: (B, C) float32, float16 or uint8, C-contiguous.
            top: (B, K) uint8 or uint16, the largest classes in their true order, C-contiguous;
                corrected too.
            target: (B,) labels.
            out: codes and `top` to write to instead, of the same shapes and dtypes.
            threads: one for each core from a job's main thread; 1, which starts none, in prefetch
                threads and Dask workers. Safe in forked processes and from any thread.
            every_row: whether to look for NaN in all rows or only in those that change; the latter
                leaves right rows unread, for rows that were checked when they were stored.

        Raises:
            BadRowError: a row has a NaN, or names a class that does not exist; the output is then
                undefined.
            UsageError: the correction changes values, and these are codes.
        """
        self.require_values(codes.dtype, "these rows")
        new_codes, new_top = (codes, top) if out is None else out
        _check_memory(codes, top, target, new_codes, new_top)
        # Read-only memory is another type to numba, which would compile the kernel once more.
        labels = np.require(target, np.int32, ["C", "W"])
        ranges = row_ranges(len(codes), threads)
        if len(ranges) == 1:
            self.kernel(codes, top, labels, new_codes, new_top, every_row=every_row)
            return

        def correct(rows: slice) -> None:
            old, old_top = codes[rows], top[rows]
            new = (old, old_top) if out is None else (new_codes[rows], new_top[rows])
            try:
                self.kernel(old, old_top, labels[rows], *new, every_row=every_row)
            except BadRowError as error:
                raise error.after(rows.start) from None

        # A pool for this call only: a forked child inherits no threads, two callers share none.
        with ThreadPoolExecutor(len(ranges)) as pool:
            for _ in pool.map(correct, ranges):
                pass

    def acts_on(self, dtype: np.dtype[Any]) -> bool:
        """Return whether it can act on codes of a dtype: it only moves them, or they are values."""
        return not self.changes_values or dtype.kind == "f"

    def require_values(self, dtype: np.dtype[Any], what: str) -> None:
        """Check that codes are values if this correction changes values.

        Raises:
            UsageError: it changes values, and `what` holds codes that are not floats.
        """
        if not self.acts_on(dtype):
            raise UsageError(
                f"{self.name} changes values, so it needs logits in float32 or float16, but {what} "
                f"holds {dtype.name} codes: cache with --encoding float16, or use a correction "
                "that only moves values (sort, swap)"
            )


def row_ranges(rows: int, parts: int) -> list[slice]:
    """Split rows into even ranges, none of them empty unless it is the only one.

    >>> row_ranges(7, 2)
    [slice(0, 4, None), slice(4, 7, None)]
    """
    size = max(1, -(-rows // parts))
    return [slice(at, min(at + size, rows)) for at in range(0, rows, size)] or [slice(0, 0)]


def _check_memory(
    codes: NDArray[Any],
    top: NDArray[Any],
    target: NDArray[np.int32],
    out: NDArray[Any],
    out_top: NDArray[Any],
) -> None:
    """Check what the kernels take for granted; anything else is a programming error."""
    if codes.dtype not in CODES:
        raise ValueError(f"codes are {codes.dtype}, not float32, float16 or uint8")
    if not len(codes) == len(top) == len(target):
        raise ValueError(f"{len(codes)} rows, {len(top)} of top, {len(target)} labels")
    for given, written in ((codes, out), (top, out_top)):
        if not (given.flags.c_contiguous and written.flags.c_contiguous):
            raise ValueError("codes and top must be C-contiguous")
        if given.shape != written.shape or given.dtype != written.dtype:
            raise ValueError("out must have the shape and dtype of what is corrected")
        if written is not given and np.may_share_memory(given, written):
            raise ValueError(
                "out must not overlap what is corrected; leave it out to correct in place"
            )
