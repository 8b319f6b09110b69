"""The deep check of a store: what its checksums can't know, compared with dataset and teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.stored_logits import (
    AGAIN,
    ComparedRows,
    StoredRows,
    StoredTeacher,
    logits_cause,
    order_cause,
    stored_order_cause,
)
from logitbank.pipeline.views import ViewRenderer, augmentation_from, main_labels, pixel_crc
from logitbank.pipeline.views.rendering.mixed_images import named_images
from logitbank.stores.corrections import Correction, correction_of_manifest
from logitbank.stores.layout import Unit, all_units, block_bounds, unit_index
from logitbank.stores.reader import Store
from logitbank.stores.verify import Problem


@dataclass(frozen=True)
class Depth:
    """How deep to check, and with what.

    `teacher` is run on one batch of each unit; None leaves the logits unchecked. `workers` is the
    number of threads that render image files.
    """

    teacher: LoadedModel | None = None
    device: str = "cpu"
    workers: int = 2


def verify_deeply(
    store: Store,
    dataset: ImageDataset,
    depth: Depth,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Problem]:
    """Compare a complete store with the dataset and the teacher that its manifest names.

    Samples and targets are compared; each view is drawn and rendered again and its parameters and
    pixels compared; in every row, the order of classes must be that of the stored logits. The
    teacher is run on one batch of each unit again, as the manifest records, and its logits and the
    order of its classes must be the stored ones (corrected as the store is), except for what
    another device changes. Another teacher is reported once, and no file is then called bad for it.

    Args:
        store: raw or corrected.
        dataset: the split of its manifest.
        depth: whether and how the teacher is run.
        progress: called with the rows checked and their number.

    Returns:
        The problems found, none for a sound store.

    Raises:
        DatasetError: an image can't be read.
        StoreError: a chunk is damaged, or the caller doesn't allow the store's correction to be
            imported, so that its logits can't be computed again.
    """
    if depth.teacher is not None and store.manifest.correction is not None:
        _correction(store)
    problems = list(_sample_problems(store, dataset))
    if problems:
        return problems  # Every view would differ: this is another dataset.
    identity = store.manifest.augmentation
    augmentation = augmentation_from(identity.name, identity.parameters)
    teacher = None
    if depth.teacher is not None:
        teacher = StoredTeacher(depth.teacher, store.manifest, depth.device)
        problems += teacher.problems(dataset, augmentation)
    compared = None if problems else teacher
    total, done = store.manifest.views * len(dataset), 0
    with ThreadPoolExecutor(depth.workers, thread_name_prefix="render") as pool:
        renderer = ViewRenderer(dataset, augmentation, pool=pool)
        for batch in _batches(store):
            problems += _view_problems(store, renderer, batch)
            problems += _row_problems(store, renderer, batch, compared)
            done += len(batch.samples)
            progress(done, total)
    return problems


@dataclass(frozen=True)
class _Batch:
    """Some samples of a unit; `is_first` for its first batch."""

    unit: Unit
    samples: NDArray[np.int64]
    is_first: bool


def _batches(store: Store) -> Iterator[_Batch]:
    size = store.manifest.teacher.batch_size
    for unit in all_units(store.manifest):
        start, stop = block_bounds(store.manifest, unit.block)
        for first in range(start, stop, size):
            samples = np.arange(first, min(first + size, stop))
            yield _Batch(unit, samples, first == start)


def _sample_problems(store: Store, dataset: ImageDataset) -> Iterator[Problem]:
    stored = store.manifest.dataset.samples
    if stored != len(dataset):
        cause = f"has {stored} samples, the dataset {len(dataset)}"
        yield Problem("sample_id", cause, "none")
        return
    pairs: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
        ("sample_id", store.sample_id, dataset.sample_ids),
        ("target", store.target, dataset.targets),
    ]
    for name, cached, found in pairs:
        others = np.flatnonzero(cached != found)
        if len(others):
            where = dataset.where(int(others[0]))
            cause = f"differs from the dataset in {len(others)} samples, first {where}"
            yield Problem(name, cause, "none")


def _view_problems(store: Store, renderer: ViewRenderer, batch: _Batch) -> Iterator[Problem]:
    """Draw and render again, and compare parameters and pixels with the stored ones."""
    seed = store.manifest.augmentation.seed
    pixels, drawn = renderer.draw(seed, batch.unit.view, batch.samples)
    comparisons = (("view_params", drawn), ("pixel_crc", pixel_crc(pixels)))
    for name, again in comparisons:
        differs = _rows(store, name, batch) != again
        if differs.any():
            row = int(np.argwhere(differs)[0][0])
            where = named_images(renderer, int(batch.samples[row]), drawn[row])
            cause = f"differs when drawn again, see {where}; {AGAIN}"
            yield Problem(_key(store, name, batch), cause, "none")


def _row_problems(
    store: Store, renderer: ViewRenderer, batch: _Batch, teacher: StoredTeacher | None
) -> Iterator[Problem]:
    """Run the teacher on a unit's first batch; elsewhere the order of the logits is compared."""
    if teacher is not None and batch.is_first:
        return _logit_problems(store, renderer, batch, teacher)
    return _order_problems(store, batch)


def _logit_problems(
    store: Store, renderer: ViewRenderer, batch: _Batch, teacher: StoredTeacher
) -> Iterator[Problem]:
    """Run the teacher again, correct its logits as the store is, and compare."""
    manifest = store.manifest
    pixels, drawn = renderer.draw(manifest.augmentation.seed, batch.unit.view, batch.samples)
    labels = main_labels(renderer.augmentation, store.target, batch.samples, drawn)
    exact = teacher.logits(pixels)
    correction = None if manifest.correction is None else _correction(store)
    rows = ComparedRows(_stored_rows(store, batch), exact, labels, correction, manifest)
    for name, cause_of in ((store.row_arrays[-1], logits_cause), ("top", order_cause)):
        found = cause_of(rows)
        if found is not None:
            row, cause = found
            where = renderer.dataset.where(int(batch.samples[row]))
            yield Problem(_key(store, name, batch), f"{cause} {where}; {AGAIN}", "none")
            return  # The order of wrong logits is wrong as well.


def _order_problems(store: Store, batch: _Batch) -> Iterator[Problem]:
    """Compare the order of classes with that of the stored logits, which needs no teacher.

    Yields a problem for the first row of the batch that disagrees.
    """
    found = stored_order_cause(_stored_rows(store, batch), store.manifest)
    if found is not None:
        row, cause = found
        sample = int(batch.samples[row])
        yield Problem(_key(store, "top", batch), f"{cause} sample {sample}; {AGAIN}", "none")


def _correction(store: Store) -> Correction:
    """Return the correction that a store's manifest names, if the caller allows it."""
    made = store.manifest.correction
    assert made is not None, "only a corrected store is asked for it"
    return correction_of_manifest(made.name, store.where, store.options.allow_corrections)


def _stored_rows(store: Store, batch: _Batch) -> StoredRows:
    start, _ = block_bounds(store.manifest, batch.unit.block)
    codes = store.read_unit_codes(batch.unit)
    chosen = {name: rows[batch.samples - start] for name, rows in codes.items()}
    return StoredRows(chosen, _rows(store, "top", batch))


def _rows(store: Store, name: str, batch: _Batch) -> NDArray[Any]:
    start, _ = block_bounds(store.manifest, batch.unit.block)
    return store.read_unit(name, batch.unit)[batch.samples - start]


def _key(store: Store, name: str, batch: _Batch) -> str:
    spec = store.arrays[name]
    return spec.chunk_key(unit_index(spec, batch.unit))
