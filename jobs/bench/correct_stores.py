"""`correct` against a copy by plain zarr, and the time to load slabs of corrected rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
import zarr.codecs
from numpy.typing import NDArray

from logitbank.jobs.bench.ranked_rows import RankedRows
from logitbank.jobs.bench.timing import Bar, Spread, interleave, ratio
from logitbank.pipeline.correct import CorrectionTask, write_virtual_store
from logitbank.pipeline.store_task import fill_store
from logitbank.stores.encodings import encoding_named
from logitbank.stores.layout import TOP_CLASSES, block_bounds, rows_per_chunk
from logitbank.stores.manifest import (
    AugmentationIdentity,
    DatasetIdentity,
    Manifest,
    TeacherIdentity,
)
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter

WANTED_OF_ZARR, WANTED_OF_LOADS = 0.8, 1 / 1.1
ZARR, ZARR_SYNCED = "zarr_copy", "zarr_copy_synced"


@dataclass(frozen=True)
class StoresMeasured:
    """Rows per second by way, of one view of N samples and C classes in float16.

    `ratios` of `sort` and `swap` are relative to a copy of the store by zarr, which flushes nothing
    to the disk while `correct` flushes everything; those of loads to loading the full sorted store.
    """

    samples: int
    classes: int
    rows_per_second: dict[str, Spread]
    ratios: dict[str, Spread]
    bars: dict[str, Bar]


def measure_stores(
    folder: Path, samples: int, classes: int, rounds: int, progress: Callable[[int, int], None]
) -> StoresMeasured:
    """Measure in a folder on the disk in question, with all files in the page cache."""
    raw = folder / "raw.zarr"
    write_ranked_store(raw, samples, classes)
    making: dict[str, Callable[[], int]] = {
        ZARR: lambda: copy_with_zarr(raw, folder / ZARR, samples),
        ZARR_SYNCED: lambda: copy_with_zarr(raw, folder / ZARR_SYNCED, samples, synced=True),
        **{name: _making(raw, name, folder / name, samples) for name in ("sort", "swap")},
    }

    def clear(name: str) -> None:
        if name in making:
            shutil.rmtree(folder / name, ignore_errors=True)
            os.sync()

    for name, make in making.items():
        clear(name)
        make()
    rates = interleave(making, rounds, prepare=clear, progress=progress)
    write_virtual_store(Store.open(raw), "sort", folder / "virtual")
    stores = {
        "load_full": Store.open(folder / "sort"),
        "load_virtual": Store.open(folder / "virtual"),
        "load_raw_sort": Store.open(raw).corrected_by("sort"),
        "load_raw_swap": Store.open(raw).corrected_by("swap"),
    }
    slab = {
        name: torch.empty(spec.shape[1:], dtype=getattr(torch, spec.dtype.name)).numpy()
        for name in stores["load_full"].row_arrays
        for spec in [stores["load_full"].arrays[name]]
    }
    loading = {name: _loading(store, slab) for name, store in stores.items()}
    for load in loading.values():
        load()
    rates |= interleave(loading, 5 * rounds)
    ratios = {name: ratio(rates[name], rates[ZARR]) for name in ("sort", "swap")}
    loads = {name: ratio(rates[name], rates["load_full"]) for name in loading if "full" not in name}
    bars = {name: Bar.judge(spread, WANTED_OF_ZARR) for name, spread in ratios.items()}
    bars |= {name: Bar.judge(spread, WANTED_OF_LOADS) for name, spread in loads.items()}
    spreads = {name: Spread.of(values) for name, values in rates.items()}
    return StoresMeasured(samples, classes, spreads, ratios | loads, bars)


def write_ranked_store(path: Path, samples: int, classes: int, views: int = 1) -> Manifest:
    """Write and seal a raw store whose labels rank as a real teacher's, the same in each view."""
    encoding = encoding_named("float16")
    manifest = Manifest(
        kind="raw",
        dataset=DatasetIdentity("random", "train", samples, classes, "0" * 64),
        augmentation=AugmentationIdentity(
            "cifar-weak", {"pad": 4, "flip": True, "size": 32}, ("dy", "dx", "flip"), "int16", 32, 0
        ),
        views=views,
        encoding=str(encoding),
        rows_per_chunk=rows_per_chunk(samples, encoding.row_bytes(classes)),
        top_classes=min(TOP_CLASSES, classes),
        teacher=TeacherIdentity(
            "random", "0" * 64, (0.5,) * 3, (0.5,) * 3, 32, "float32", 1, "contiguous"
        ),
    )
    drawn = RankedRows.draw(manifest.rows_per_chunk, classes)
    rows = np.arange(samples) % len(drawn.target)
    writer = StoreWriter.open(path, manifest, drawn.target[rows], np.arange(samples, dtype="u8"))
    rng = np.random.default_rng(1)
    for unit in writer.missing:
        block = rows[slice(*block_bounds(manifest, unit.block))]
        values = {
            "view_params": rng.integers(0, 9, (len(block), 3)).astype(np.int16),
            "pixel_crc": rng.integers(0, 2**32, len(block), np.uint32),
            "top": drawn.top[block],
            **encoding.encode(drawn.logits[block]),
        }
        writer.write_unit(unit, values)
    return writer.seal()


def _making(raw: Path, name: str, out: Path, samples: int) -> Callable[[], int]:
    def make() -> int:
        parent = Store.open(raw)
        fill_store(CorrectionTask.of(parent, name, str(out)))
        return samples

    return make


def _loading(store: Store, slab: Mapping[str, NDArray[Any]]) -> Callable[[], int]:
    """Return work that reads the view into the same memory each time, as for a slab."""

    def load() -> int:
        store.read_codes(0, slab)
        return store.manifest.dataset.samples

    return load


def copy_with_zarr(source: Path, out: Path, samples: int, *, synced: bool = False) -> int:
    """Copy every array by zarr's own reads and writes, with the same chunks and checksums."""
    old = zarr.open_group(source, mode="r")
    new = zarr.create_group(out, attributes=dict(old.attrs))
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name, array in old.arrays():
            copy = new.create_array(
                name,
                shape=array.shape,
                chunks=array.chunks,
                dtype=array.dtype,
                compressors=zarr.codecs.Crc32cCodec(),
            )
            copy[...] = array[...]
    if synced:
        for path in out.rglob("*"):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    return samples
