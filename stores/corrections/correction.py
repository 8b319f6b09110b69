"""A correction: a map of rows that has a name, in place or to new memory, by one thread or more."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.corrections.bad_rows import BadRowError
from logitbank.stores.errors import UsageError


class RowKernel(Protocol):
    """Corrects (codes, top, target) to (out, out_top), which may be the same memory."""

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

    `changes_values` says that it does more than move a row's values between classes, so that it
    can't act on codes that stand for values (`EncodedCorrection` decodes them for it);
    `temperature` is the one that it acts at, None where its result is the same at any.
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
            top: (B, K) uint8 or uint16, the largest classes in their true order; C-contiguous. It
                is corrected along.
            target: (B,) labels.
            out: codes and `top` to write instead, of the same shapes and dtypes.
            threads: of the main thread of a job, one for each core; 1, which starts none, in
                prefetch threads and Dask workers. Safe in forked processes and from any thread.
            every_row: look for NaN in all rows; else in those alone that are changed, which leaves
                right rows unread: for rows that were looked at when they were stored.

        Raises:
            BadRowError: a row has a NaN, or names a class that there is not; what is written to is
                then undefined.
            UsageError: it changes values, and these are codes.
        """
        self.require_values(codes.dtype, "these rows")
        new_codes, new_top = (codes, top) if out is None else out
        _check_memory(codes, top, target, new_codes, new_top)
        # Read-only memory would be another type to the compiler, and compiled for once more.
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

        # Threads of this call alone: a forked child inherits none, two callers share none.
        with ThreadPoolExecutor(len(ranges)) as pool:
            for _ in pool.map(correct, ranges):
                pass

    def acts_on(self, dtype: np.dtype[Any]) -> bool:
        """Say whether it can act on codes of this dtype: on values, or by moving them alone."""
        return not self.changes_values or dtype.kind == "f"

    def require_values(self, dtype: np.dtype[Any], what: str) -> None:
        """Refuse codes that stand for values where this correction changes values.

        Raises:
            UsageError: it does, and `what` holds codes of another dtype than a float.
        """
        if not self.acts_on(dtype):
            raise UsageError(
                f"{self.name} changes values, so it needs logits in float32 or float16, but {what} "
                f"holds {dtype.name} codes: cache with --encoding float16, or use a correction "
                "that only moves values (sort, swap)"
            )


def row_ranges(rows: int, parts: int) -> list[slice]:
    """Cut rows into even ranges, none of them empty but the only one.

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
    """Require what the kernels take for granted; anything else is a programming error."""
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
            raise ValueError("out must be other memory; leave it out to correct in place")
