"""`bench correct`: the speed of corrections on rows in memory and on whole stores."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from logitbank.jobs.bench.correct_device import measure_device_rows
from logitbank.jobs.bench.correct_rows import COPY, TWO_SORTS, RowsMeasured, measure_rows
from logitbank.jobs.bench.correct_stores import StoresMeasured, measure_stores

CLASSES, DTYPES = (100, 1000), ("float16", "float32")

RoundsDone = Callable[[int, int], None]


@dataclass(frozen=True)
class CorrectSettings:
    """What to measure: rows in memory on a device, and, on the CPU, stores of two shapes.

    `store_samples` is N at 1,000 classes, `small_samples` at 100.
    """

    megabytes: int
    store_samples: int
    small_samples: int
    rounds: int
    device: str = "cpu"
    folder: str | None = None


@dataclass(frozen=True)
class CorrectMeasured:
    """Results for rows in memory by number of classes and dtype, and for stores by shape."""

    settings: CorrectSettings
    rows: tuple[RowsMeasured, ...]
    stores: tuple[StoresMeasured, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as plain objects."""
        return dataclasses.asdict(self)


def measure_correct(
    settings: CorrectSettings, progress: RoundsDone = lambda done, total: None
) -> CorrectMeasured:
    """Measure the kernels, then `correct` and the loading of slabs."""
    on_cpu = settings.device == "cpu"
    stores = [(settings.store_samples, 1000), (settings.small_samples, 100)] if on_cpu else []
    shapes = [(classes, dtype) for classes in CLASSES for dtype in DTYPES]
    step = _steps(len(shapes) + len(stores), progress)
    size = settings.megabytes, settings.rounds
    if on_cpu:
        rows = [measure_rows(*shape, *size, next(step)) for shape in shapes]
    else:
        rows = [measure_device_rows(*shape, *size, settings.device, next(step)) for shape in shapes]
    return CorrectMeasured(
        settings,
        tuple(rows),
        tuple(_measure_store(settings, *shape, next(step)) for shape in stores),
    )


def _steps(count: int, progress: RoundsDone) -> Iterator[RoundsDone]:
    """Yield a progress callback for each of `count` measurements."""

    def report(before: int, done: int, total: int) -> None:
        progress(before * total + done, count * total)

    for before in range(count):
        yield partial(report, before)


def _measure_store(
    settings: CorrectSettings, samples: int, classes: int, progress: RoundsDone
) -> StoresMeasured:
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        return measure_stores(Path(folder), samples, classes, settings.rounds, progress)


def correct_lines(found: CorrectMeasured) -> list[str]:
    """Return the measurement as lines of text."""
    lines = []
    for rows in found.rows:
        lines += _rows_lines(rows, found.settings.device)
    for stores in found.stores:
        lines += _stores_lines(stores)
    return lines


def _rows_lines(rows: RowsMeasured, device: str) -> list[str]:
    reference = "np.copyto by one thread" if device == "cpu" else f"a copy within {device}"
    lines = [
        f"{rows.rows:,} rows of {rows.classes:,} in {rows.dtype}, {rows.wrong_percent:.1f}% wrong: "
        f"GB/s, and ratio to {reference}"
    ]
    for name, rate in rows.gigabytes_per_second.items():
        ratio = f", ratio {rows.ratios[name]:.2f}" if name in rows.ratios else ""
        lines.append(f"  {name:<20} {rate:.2f}{ratio}")
    if rows.sort_to_two_sorts is not None:
        lines.append(f"  sort is {rows.sort_to_two_sorts:.0f} times two sorts in torch")
    wanted = {**dict.fromkeys(("sort", "swap"), COPY), TWO_SORTS: "two sorts"}
    for name, bar in rows.bars.items():
        lines.append(f"  wanted: {bar.wanted:g} of {wanted[name]} ({name}): {bar.verdict}")
    return lines


def _stores_lines(stores: StoresMeasured) -> list[str]:
    lines = [f"a store of {stores.samples:,} x {stores.classes:,} in float16: rows/s"]
    for name, rate in stores.rows_per_second.items():
        ratio = ""
        if name in stores.ratios:
            bar, of = stores.bars[name], "load_full" if "load" in name else "zarr_copy"
            ratio = f", {stores.ratios[name]:.2f} of {of} (wanted {bar.wanted:.2f}: {bar.verdict})"
        lines.append(f"  {name:<20} {rate:,.0f}{ratio}")
    return lines
