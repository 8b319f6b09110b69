"""The cost of the slab alone: gathering batches, and reading and checking a view per epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from logitbank.jobs.bench.student_figures import SlabCost
from logitbank.jobs.bench.timing import Spread
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.views.rendering.renderer import pixel_crc
from logitbank.stores.files.buffers import aligned_empty
from logitbank.stores.slab import Slab

PASSES = 15


def measure_slab(
    store: Path, dataset: MemoryDataset, batch_size: int, settle: Callable[[], None], device: str
) -> SlabCost:
    """Measure, separately, what only a student with a cache does.

    Args:
        store: a complete store of the dataset, with its files in the page cache.
        dataset: its images.
        batch_size: rows per gather.
        settle: waits until the training device has finished its work.
        device: the device of the slab.
    """
    soft = SoftLabels.open(store)
    slab = soft.epoch(0, device=device)
    rows = slab.rows[torch.randperm(len(slab.rows))].split(batch_size)
    specs = [soft.store.arrays[name] for name in soft.store.row_arrays]
    codes = {spec.name: aligned_empty(spec.shape[1:], spec.dtype) for spec in specs}
    return SlabCost(
        batch_microseconds=_spent(lambda: _gather(slab, rows, settle), 1e6 / len(rows)),
        view_milliseconds=_spent(lambda: soft.store.read_codes(0, codes), 1e3),
        check_milliseconds=_spent(lambda: _check(soft, dataset), 1e3),
    )


def _spent(work: Callable[[], object], scale: float) -> Spread:
    """Time some work repeatedly, after one untimed pass; seconds are multiplied by `scale`."""
    work()
    spent = []
    for _ in range(PASSES):
        began = time.perf_counter()
        work()
        spent.append((time.perf_counter() - began) * scale)
    return Spread.of(spent)


def _gather(slab: Slab, rows: tuple[torch.Tensor, ...], settle: Callable[[], None]) -> None:
    """Gather the batches of an epoch."""
    for row in rows:
        slab[row]
    settle()


def _check(soft: SoftLabels, dataset: MemoryDataset) -> np.ndarray:
    """Check pixels against a view's checksums; that they are not the view's costs no more."""
    stored = soft.store.read_view("pixel_crc", 0)
    return np.flatnonzero(pixel_crc(dataset.images) != stored)
