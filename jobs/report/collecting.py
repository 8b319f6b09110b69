"""A report put together from stores and runs, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from logitbank.jobs.report.findings import counted, join_names
from logitbank.jobs.report.reading import find_mistakes, read_store
from logitbank.jobs.report.results import (
    TEMPERATURE,
    Mistake,
    Report,
    StoreOnDisk,
    StudentRun,
    TeacherCost,
)
from logitbank.jobs.report.runs import FinishedRun
from logitbank.pipeline.datasets import ImageDataset
from logitbank.stores.errors import UsageError
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store

MISTAKES = 4


def report_of(
    stores: Mapping[str, Store],
    runs: Sequence[StudentRun] = (),
    dataset: ImageDataset | None = None,
    *,
    temperature: float = TEMPERATURE,
) -> Report:
    """Read what a report tells of stores and runs, without what only their maker knows.

    Args:
        stores: complete ones by name, raw, corrected or virtual; the mistakes are the first raw
            one's.
        runs: finished ones.
        dataset: the samples that the stores were made from, to show mistakes; None shows none.
        temperature: that at which distributions are drawn.

    Raises:
        UsageError: the dataset has other classes than the store, or fewer samples.
        StoreError: a chunk is missing or damaged.
        PixelError: the dataset's pixels are not those that were cached.
    """
    on_disk = tuple(read_store(store, name) for name, store in stores.items())
    return Report(
        title=_title(stores, runs),
        introduction=_introduction(on_disk),
        runs=tuple(runs),
        comparisons=_comparisons(run.method for run in runs),
        stores=on_disk,
        classes=() if dataset is None else dataset.classes,
        mistakes=() if dataset is None else _mistakes(stores, dataset),
        temperature=temperature,
        setting=_setting(on_disk),
    )


def cost_of(stores: Iterable[Store], runs: Sequence[FinishedRun]) -> TeacherCost | None:
    """Count what the students of one raw store would have asked of the teacher.

    Returns:
        The cost, None where that is no single figure: no student learned from the stores, they
        trained for other numbers of epochs or samples, or there are several raw stores or none.
    """
    raws = [store.manifest for store in stores if store.manifest.correction is None]
    taught = [run.config for run in runs if run.config.soft_labels and run.config.loss != "ce"]
    if len(raws) != 1 or not taught:
        return None
    samples, views = raws[0].dataset.samples, raws[0].views
    trained = {(config.epochs, len(config.trained_samples(samples))) for config in taught}
    if trained != {(taught[0].epochs, samples)}:
        return None
    return TeacherCost(samples, views, taught[0].epochs, len(taught))


def _title(stores: Mapping[str, Store], runs: Sequence[StudentRun]) -> str:
    told = f"Report on {join_names(list(stores))}"
    return f"{told} and {counted(len(runs), 'run')}" if runs else told


def _introduction(stores: Sequence[StoreOnDisk]) -> str:
    """Say who was cached, on what."""
    told = []
    for store in stores:
        manifest = store.manifest
        shown = (
            f"{manifest.teacher.spec} looked at {counted(manifest.views, 'view')} of each of "
            f"{counted(manifest.dataset.samples, 'sample')} of {manifest.dataset.name} "
            f"{manifest.dataset.split}."
        )
        told.append(shown)
    return " ".join(dict.fromkeys(told))


def _comparisons(methods: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Compare each method with the first."""
    first, *others = dict.fromkeys(methods) or [""]
    return tuple((other, first) for other in others)


def _mistakes(stores: Mapping[str, Store], dataset: ImageDataset) -> tuple[Mistake, ...]:
    raw = next((store for store in stores.values() if store.manifest.correction is None), None)
    if raw is None:
        return ()
    _require_dataset(raw, dataset)
    corrected = {
        name: store
        for name, store in stores.items()
        if _parent(store.manifest) == raw.manifest.digest
    }
    return find_mistakes(dataset, raw, corrected, count=MISTAKES)


def _require_dataset(raw: Store, dataset: ImageDataset) -> None:
    cached = raw.manifest.dataset
    for what, found, wanted, is_right in (
        ("classes", len(dataset.classes), cached.classes, len(dataset.classes) == cached.classes),
        ("samples", len(dataset), cached.samples, len(dataset) >= cached.samples),
    ):
        if not is_right:
            raise UsageError(
                f"--dataset has {found:,} {what} in its {dataset.split} split, but {raw.where} was "
                f"made from {wanted:,}: name the dataset that was cached"
            )


def _parent(manifest: Manifest) -> str | None:
    return None if manifest.correction is None else manifest.correction.parent_digest


def _setting(stores: Sequence[StoreOnDisk]) -> dict[str, str]:
    return {store.name: "; ".join(_facts(store.manifest)) for store in stores}


def _facts(manifest: Manifest) -> list[str]:
    """Say of a store what tells it from others."""
    augmentation, made = manifest.augmentation, manifest.correction
    versions = ", ".join(f"{name} {told}" for name, told in manifest.provenance.versions.items())
    kind = "raw" if made is None else f"{manifest.kind}, by {made.name}"
    return [
        f"{kind}, {manifest.encoding}",
        f"views of {augmentation.name}, seed {augmentation.seed}",
        f"on {manifest.provenance.device}, {versions}",
        f"digest {manifest.digest}",
    ]
