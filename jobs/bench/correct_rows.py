"""Rows in memory: each correction's kernels against `np.copyto` by one thread and two sorts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.jobs.bench.ranked_rows import RankedRows
from logitbank.jobs.bench.timing import Bar, Spread, interleave, ratio
from logitbank.pipeline.devices import torch_threads
from logitbank.stores.corrections import BUILT_IN, CORRECTIONS
from logitbank.stores.files.buffers import aligned_empty

WANTED = {"swap": 0.8, "sort": 0.5}
WANTED_OF_TWO_SORTS = 50.0
COPY, TWO_SORTS = "copy", "two_sorts_in_torch"
DRAWN_ROWS, TWO_SORT_ROWS = 16_384, 2_048

Ways = Mapping[str, Callable[[], int]]
"""Work by name; each returns the number of bytes of the rows that it processed."""


@dataclass(frozen=True)
class RowsMeasured:
    """Gigabytes of rows per second by way, at one number of classes and one dtype.

    `ratios` are relative to a copy of the same rows: by one thread's `np.copyto`, or within a
    device. `bars` compare the serial in-place kernels with it, and sort with two full sorts.
    """

    classes: int
    dtype: str
    rows: int
    wrong_percent: float
    gigabytes_per_second: dict[str, Spread]
    ratios: dict[str, Spread]
    sort_to_two_sorts: Spread | None
    bars: dict[str, Bar]

    @classmethod
    def of(cls, rows: RankedCodes, rates: Mapping[str, list[float]]) -> RowsMeasured:
        """Compare the ways by their rates in bytes per second, round by round."""
        copied = rates[COPY]
        compared = [name for name in rates if name not in (COPY, TWO_SORTS)]
        return cls(
            rows.codes.shape[1],
            rows.codes.dtype.name,
            len(rows.codes),
            round(100 * rows.wrong, 2),
            {name: Spread.of(np.divide(values, 1e9)) for name, values in rates.items()},
            {name: ratio(rates[name], copied) for name in compared},
            None,
            {},
        )


@dataclass(frozen=True)
class RankedCodes:
    """(B, C) codes, (B, K) `top` and (B,) labels, repeated until they exceed the CPU's caches."""

    codes: NDArray[Any]
    top: NDArray[Any]
    target: NDArray[np.int32]
    wrong: float

    @classmethod
    def draw(cls, classes: int, dtype: str, megabytes: int) -> RankedCodes:
        """Draw rows of a dtype."""
        drawn = RankedRows.draw(DRAWN_ROWS, classes)
        codes = drawn.logits.astype(dtype)
        times = max(1, round(megabytes * 2**20 / codes.nbytes))
        return cls(
            np.tile(codes, (times, 1)),
            np.tile(drawn.top, (times, 1)),
            np.tile(drawn.target, times),
            drawn.wrong,
        )


def measure_rows(
    classes: int,
    dtype: str,
    megabytes: int,
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RowsMeasured:
    """Measure the kernels at one number of classes and one dtype."""
    work = RowWork(RankedCodes.draw(classes, dtype, megabytes))
    with torch_threads(1):
        for name, way in work.ways.items():  # compile kernels and touch every page
            work.restore(name)
            way()
        rates = interleave(work.ways, rounds, prepare=work.restore, progress=progress)
    found = RowsMeasured.of(work.rows, rates)
    slow = ratio(rates["sort"], rates[TWO_SORTS])
    bars = {name: Bar.judge(found.ratios[name], wanted) for name, wanted in WANTED.items()}
    bars[TWO_SORTS] = Bar.judge(slow, WANTED_OF_TWO_SORTS)
    return dataclasses.replace(found, sort_to_two_sorts=slow, bars=bars)


class RowWork:
    """The same rows for every way; each leaves them, corrected or copied, in `here`."""

    def __init__(self, rows: RankedCodes) -> None:
        self.rows = rows
        self.here = aligned_empty(rows.codes.shape, rows.codes.dtype)
        self.here_top = aligned_empty(rows.top.shape, rows.top.dtype)
        ways: dict[str, Callable[[], int]] = {COPY: self._copy, TWO_SORTS: self._two_sorts}
        for name in BUILT_IN:
            ways[name] = partial(self._correct, name)
            ways[f"{name}_2_threads"] = partial(self._correct, name, threads=2)
            ways[f"{name}_to_new"] = partial(self._correct_to_new, name)
        self.ways: Ways = ways

    def restore(self, name: str) -> None:
        """Restore the uncorrected rows for the next way."""
        self.here[...], self.here_top[...] = self.rows.codes, self.rows.top

    def _copy(self) -> int:
        np.copyto(self.here, self.rows.codes)
        return self.rows.codes.nbytes

    def _correct(self, name: str, *, threads: int = 1) -> int:
        CORRECTIONS[name](self.here, self.here_top, self.rows.target, threads=threads)
        return self.rows.codes.nbytes

    def _correct_to_new(self, name: str) -> int:
        rows = self.rows
        CORRECTIONS[name](rows.codes, rows.top, rows.target, out=(self.here, self.here_top))
        return rows.codes.nbytes

    def _two_sorts(self) -> int:
        rows = slice(0, TWO_SORT_ROWS)
        codes, target = self.rows.codes[rows], self.rows.target[rows]
        two_sorts(torch.from_numpy(codes), torch.from_numpy(target))
        return codes.nbytes


def two_sorts(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sort rows the plain way: classes ordered with the label first, values in descending order.

    Args:
        logits: (B, C).
        target: (B,).

    Returns:
        (B, C); the order of equal values is not specified.
    """
    label = target.to(torch.int64)[:, None]
    lifted = logits.to(torch.float32).scatter_add(
        1, label, torch.full(label.shape, 1e9, device=logits.device)
    )
    order = lifted.argsort(dim=1, descending=True)
    values = logits.sort(dim=1, descending=True).values
    return torch.empty_like(logits).scatter_(1, order, values)
