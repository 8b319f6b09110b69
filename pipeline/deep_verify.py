"""The deep check of a store: what its checksums can't know, held against dataset and teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel, state_sha256
from logitbank.pipeline.views import ViewRenderer, augmentation_from, pixel_crc
from logitbank.pipeline.views.mixed_images import named_images
from logitbank.stores.corrections import Correction, correction_of_manifest
from logitbank.stores.encodings import encoding_named
from logitbank.stores.layout import Unit, all_units, block_bounds, unit_index
from logitbank.stores.ranking import top_classes
from logitbank.stores.reader import Store
from logitbank.stores.verify import Problem

# Far above what another device or batch size changes, far below what another teacher does.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Depth:
    """How deep to look, and with what.

    `teacher` is run on one batch of each unit; None leaves the logits unchecked. `workers` is the
    threads that render image files.
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
    """Hold a complete store against the dataset, and the teacher, that it says it was made from.

    Samples and targets are compared; each view is drawn and rendered again and its parameters and
    pixels compared; the teacher sees one batch of each unit again, and its logits must be within
    1% of the row's range of the stored ones (corrected as the store is).

    Args:
        store: raw or corrected.
        dataset: the split of its manifest.
        depth: whether and how the teacher is run.
        progress: called with the rows checked and their number.

    Returns:
        The problems, none for a store that tells the truth.

    Raises:
        DatasetError: an image can't be read.
        StoreError: a chunk is damaged, or the store's correction is one that the caller doesn't let
            it import, so that its logits can't be computed again.
    """
    if depth.teacher is not None and store.manifest.correction is not None:
        _correction(store)
    problems = list(_sample_problems(store, dataset))
    if problems:
        return problems  # Every view would differ: this is another dataset.
    if depth.teacher is not None:
        problems += _teacher_problems(store, depth.teacher)
    total, done = store.manifest.views * len(dataset), 0
    with ThreadPoolExecutor(depth.workers, thread_name_prefix="render") as pool:
        identity = store.manifest.augmentation
        augmentation = augmentation_from(identity.name, identity.parameters)
        renderer = ViewRenderer(dataset, augmentation, pool=pool)
        for batch in _batches(store):
            problems += _view_problems(store, renderer, batch)
            if depth.teacher is not None and batch.is_first:
                problems += _logit_problems(store, renderer, batch, depth.teacher, depth.device)
            done += len(batch.samples)
            progress(done, total)
    return problems


@dataclass(frozen=True)
class _Batch:
    """Some samples of a unit; whether they are its first ones."""

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
        yield Problem("sample_id", f"has {stored} samples, the dataset {len(dataset)}")
        return
    pairs: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
        ("sample_id", store.sample_id, dataset.sample_ids),
        ("target", store.target, dataset.targets),
    ]
    for name, cached, found in pairs:
        others = np.flatnonzero(cached != found)
        if len(others):
            where = dataset.where(int(others[0]))
            yield Problem(name, f"differs from the dataset in {len(others)} samples, first {where}")


def _teacher_problems(store: Store, teacher: LoadedModel) -> Iterator[Problem]:
    stored, found = store.manifest.teacher.state_sha256, state_sha256(teacher.module)
    if stored != found:
        yield Problem(
            "zarr.json", f"names a teacher with weights {stored[:12]}, this one has {found[:12]}"
        )


def _view_problems(store: Store, renderer: ViewRenderer, batch: _Batch) -> Iterator[Problem]:
    """Draw and render again, and compare what was drawn and what was seen."""
    seed = store.manifest.augmentation.seed
    pixels, drawn = renderer.draw(seed, batch.unit.view, batch.samples)
    comparisons = (("view_params", drawn), ("pixel_crc", pixel_crc(pixels)))
    for name, again in comparisons:
        differs = _rows(store, name, batch) != again
        if differs.any():
            row = int(np.argwhere(differs)[0][0])
            where = named_images(renderer, int(batch.samples[row]), drawn[row])
            yield Problem(_key(store, name, batch), f"is not what drawing again gives, see {where}")


def _logit_problems(
    store: Store, renderer: ViewRenderer, batch: _Batch, teacher: LoadedModel, device: str
) -> Iterator[Problem]:
    """Run the teacher again, correct what it says as the store is, and compare."""
    manifest = store.manifest
    pixels, _ = renderer.draw(manifest.augmentation.seed, batch.unit.view, batch.samples)
    logits = forward_logits(teacher, pixels, batch_size=manifest.teacher.batch_size, device=device)
    exact = logits.cpu().numpy()
    encoding = encoding_named(manifest.encoding)
    again = encoding.encode(exact)
    if manifest.correction is not None:
        targets = store.target[batch.samples]
        top = top_classes(exact, targets, manifest.top_classes)
        _correction(store)(again, top, targets)
    stored = encoding.decode(_rows(store, "logits", batch))
    span = np.ptp(stored, axis=1).clip(min=1e-6)
    worst = np.abs(stored - encoding.decode(again)).max(axis=1) / span
    if worst.max() > TOLERANCE:
        where = renderer.dataset.where(int(batch.samples[int(worst.argmax())]))
        yield Problem(
            _key(store, "logits", batch),
            f"is not what the teacher says: {100 * worst.max():.1f}% of the row's range off for "
            f"{where}",
        )


def _correction(store: Store) -> Correction:
    """Give the correction that a store's manifest names, if the caller lets it be run."""
    made = store.manifest.correction
    assert made is not None, "only a corrected store is asked for it"
    return correction_of_manifest(made.name, store.where, store.opening.allow_corrections)


def _rows(store: Store, name: str, batch: _Batch) -> NDArray[Any]:
    start, _ = block_bounds(store.manifest, batch.unit.block)
    return store.read_block(name, batch.unit)[batch.samples - start]


def _key(store: Store, name: str, batch: _Batch) -> str:
    spec = store.arrays[name]
    return spec.chunk_key(unit_index(spec, batch.unit))
