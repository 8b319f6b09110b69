"""Results from where they lie: runs, stores, and the rows on which a teacher was wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.report.results import Mistake, StoreOnDisk, StudentRun
from logitbank.pipeline.report.shares import softmax
from logitbank.pipeline.views import StoredViews, main_labels
from logitbank.pipeline.views.renderer import ViewRenderer
from logitbank.stores.errors import LogitbankError
from logitbank.stores.files import LocalFiles
from logitbank.stores.reader import Store

METRICS = "metrics.jsonl"
SEARCHED_VIEWS = 16


def read_run(path: Path, method: str, seed: int) -> StudentRun:
    """Read a finished run's accuracies from its `metrics.jsonl`.

    Raises:
        LogitbankError: there is no such file, or it has no accuracy in it.
    """
    metrics = path / METRICS
    if metrics.exists() and not metrics.is_file():
        raise LogitbankError(f"{metrics} can't be read: it is no file")
    try:
        epochs = [json.loads(line) for line in metrics.read_text().splitlines()]
        accuracies = [float(epoch["top1"]) for epoch in epochs]
        best, last = max(accuracies), accuracies[-1]
    except OSError as error:
        raise LogitbankError(f"{metrics} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise LogitbankError(f"{metrics} has no top1 for each of its epochs") from error
    return StudentRun(method, seed, best, last, len(epochs), str(metrics))


def read_store(path: Path, name: str) -> StoreOnDisk:
    """Read what a complete local store says of itself, and the sizes of its files.

    Raises:
        StoreError: there is no store, or it is incomplete or damaged.
    """
    store = Store.open(path)
    sizes = dict.fromkeys(store.arrays, 0)
    beside = 0
    for key in LocalFiles(path).list_keys():
        size = (path / key).stat().st_size
        array, _, _ = key.partition("/")
        if array in sizes:
            sizes[array] += size
        else:
            beside += size
    return StoreOnDisk(name, store.manifest, sizes, beside)


@dataclass(frozen=True)
class _WrongRow:
    """Where a wrong row is, the label's rank in it, and how much of the probability its top has."""

    view: int
    sample: int
    rank: int
    confidence: float


def find_mistakes(
    dataset: ImageDataset, raw: Path, corrected: Mapping[str, Path], *, count: int
) -> tuple[Mistake, ...]:
    """Choose views on which the teacher was wrong, and read what stands in each store for them.

    The first 16 views of the raw store are searched. Of each rank that the label takes, the row
    where the teacher was surest of its wrong class is chosen: rank 2, 3 and so on, and the deepest
    rank as the last; each of another sample.

    Args:
        dataset: that of the stores.
        raw: the raw store.
        corrected: corrected ones by name.
        count: how many mistakes, at most.

    Raises:
        StoreError: a store is incomplete or damaged.
        PixelError: the dataset's pixels can't be what was cached.
    """
    store = Store.open(raw)
    views = StoredViews.of(store)
    renderer = ViewRenderer(dataset, views.augmentation)
    stores = {"raw": store} | {name: Store.open(path) for name, path in corrected.items()}
    labelled = views.augmentation, store.target
    mistakes = []
    for row in _chosen(_surest_by_rank(store, views), count):
        params = views.params(row.view, [row.sample])
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
    """List the wrong rows by rank, and from the surest on."""
    rows = []
    for view in range(min(store.manifest.views, SEARCHED_VIEWS)):
        samples = np.arange(views.samples)
        params = views.params(view, samples)
        labels = main_labels(views.augmentation, store.target, samples, params)
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
    """Take the first row of each rank, the deepest rank among them; another sample each time."""
    chosen: dict[int, _WrongRow] = {}
    deepest = rows[-1].rank if rows else 0
    wanted = [deepest, *sorted({row.rank for row in rows} - {deepest})][:count]
    for rank in wanted:
        taken = {row.sample for row in chosen.values()}
        others = [row for row in rows if row.rank == rank and row.sample not in taken]
        if others:
            chosen[rank] = others[0]
    return [chosen[rank] for rank in sorted(chosen)]
