"""Reading results: runs, stores, and the rows in which a teacher was wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitbank.jobs.report.results import Mistake, StoreOnDisk, StudentRun
from logitbank.jobs.report.shares import softmax
from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.views import StoredViews, main_labels
from logitbank.pipeline.views.mismatch import explain_mismatch, mismatches
from logitbank.pipeline.views.rendering.renderer import ViewRenderer
from logitbank.stores.documents import CRC_GROUP_KEY, ROOT_KEY
from logitbank.stores.errors import LogitbankError, PixelError
from logitbank.stores.layout import crc_arrays, store_keys
from logitbank.stores.reader import Store

METRICS = "metrics.jsonl"
SEARCHED_VIEWS, SEARCHED_ROWS = 16, 1_000_000
"""How much of a store is searched for mistakes to show: fewer views if it has many samples."""


def read_run(path: Path, method: str, seed: int) -> StudentRun:
    """Read a finished run's accuracies from its `metrics.jsonl`.

    Raises:
        LogitbankError: the file is missing, or has no accuracies.
    """
    metrics = path / METRICS
    if metrics.exists() and not metrics.is_file():
        raise LogitbankError(f"{metrics} can't be read: it is not a file")
    try:
        epochs = [json.loads(line) for line in metrics.read_text().splitlines()]
        accuracies = [float(epoch["top1"]) for epoch in epochs]
        best, last = max(accuracies), accuracies[-1]
    except OSError as error:
        raise LogitbankError(f"{metrics} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise LogitbankError(f"{metrics} has no top1 for each of its epochs") from error
    return StudentRun(method, seed, best, last, len(epochs), str(metrics))


def read_store(store: Store, name: str) -> StoreOnDisk:
    """Read the sizes of a store's files; a virtual store only has its manifest."""
    arrays = {} if store.manifest.kind == "virtual" else store.arrays
    keys = [ROOT_KEY]
    if arrays:
        keys += [CRC_GROUP_KEY, *store_keys(crc_arrays(arrays))]
    sizes = {array: _total(store, store_keys({array: spec})) for array, spec in arrays.items()}
    return StoreOnDisk(name, store.manifest, sizes, _total(store, keys))


def _total(store: Store, keys: list[str]) -> int:
    return sum(size or 0 for size in store.files.sizes(keys))


@dataclass(frozen=True)
class _WrongRow:
    """A wrong row: its place, the label's rank in it, and the probability of its top class."""

    view: int
    sample: int
    rank: int
    confidence: float


def find_mistakes(
    dataset: ImageDataset, raw: Store, corrected: Mapping[str, Store], *, count: int
) -> tuple[Mistake, ...]:
    """Choose views on which the teacher was wrong, and read their logits from each store.

    The first 16 views of the raw store are searched, or fewer if they have more than a million
    rows. For each rank of the label, the row in which the teacher was most certain of its wrong
    class is chosen: rank 2, 3 and so on, and the deepest rank last; each of a different sample.

    Args:
        dataset: the dataset of the stores.
        raw: the raw store.
        corrected: corrected stores made from it, by name.
        count: the maximum number of mistakes.

    Raises:
        StoreError: a chunk is missing or damaged.
        PixelError: the dataset's pixels are not those that were cached.
    """
    views = StoredViews.of(raw)
    renderer = ViewRenderer(dataset, views.kind)
    stores = {"raw": raw, **corrected}
    labelled = views.kind, raw.target
    mistakes = []
    for row in _chosen(_surest_by_rank(raw, views), count):
        params = views.params(row.view, [row.sample])
        if len(mismatches(renderer, views, row.view, np.array([row.sample]))):
            raise PixelError(explain_mismatch(renderer, views, row.view, row.sample))
        mistakes.append(
            Mistake(
                sample=row.sample,
                view=row.view,
                pixels=renderer.render([row.sample], params)[0].numpy(),
                label=int(main_labels(*labelled, np.array([row.sample]), params)[0]),
                rank=row.rank,
                logits={
                    name: one.read_logits(row.view)[row.sample] for name, one in stores.items()
                },
            )
        )
    return tuple(mistakes)


def _surest_by_rank(store: Store, views: StoredViews) -> list[_WrongRow]:
    """Return the wrong rows by rank, the most certain first."""
    rows = []
    searched = max(1, min(SEARCHED_VIEWS, SEARCHED_ROWS // views.samples))
    for view in range(min(store.manifest.views, searched)):
        samples = np.arange(views.samples)
        params = views.params(view, samples)
        labels = main_labels(views.kind, store.target, samples, params)
        hits = store.read_view("top", view) == labels[:, None]
        ranks = np.where(hits.any(axis=1), hits.argmax(axis=1), hits.shape[1]) + 1
        wrong = np.flatnonzero(ranks > 1)
        confidence = softmax(store.read_logits(view)[wrong], 1.0).max(axis=1)
        rows += [
            _WrongRow(view, int(sample), int(ranks[sample]), float(sure))
            for sample, sure in zip(wrong, confidence, strict=True)
        ]
    return sorted(rows, key=lambda row: (row.rank, -row.confidence, row.view, row.sample))


def _chosen(rows: list[_WrongRow], count: int) -> list[_WrongRow]:
    """Return the first row of each rank, including the deepest, each of a different sample."""
    chosen: dict[int, _WrongRow] = {}
    deepest = rows[-1].rank if rows else 0
    wanted = [deepest, *sorted({row.rank for row in rows} - {deepest})][:count]
    for rank in wanted:
        taken = {row.sample for row in chosen.values()}
        others = [row for row in rows if row.rank == rank and row.sample not in taken]
        if others:
            chosen[rank] = others[0]
    return [chosen[rank] for rank in sorted(chosen)]
