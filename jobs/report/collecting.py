"""Reports on any stores and runs."""

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
    """Build a report on stores and runs, as far as they can be read.

    Args:
        stores: complete stores by name, raw, corrected or virtual; mistakes are shown of the first
            raw one.
        runs: finished runs.
        dataset: the samples that the stores were made from, to show mistakes; None to show none.
        temperature: the temperature of the distributions shown.

    Raises:
        UsageError: the dataset has another number of classes than the store, or fewer samples.
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
    """Count the teacher forward passes of one raw store, and of its students without it.

    Returns:
        The cost; None if there is no single figure, since no student learned from the stores, their
        numbers of epochs or samples differ, or there is not exactly one raw store.
    """
    raws = [store.manifest for store in stores if store.manifest.correction is None]
    distilled = [run.config for run in runs if run.config.soft_labels and run.config.loss != "ce"]
    if len(raws) != 1 or not distilled:
        return None
    samples, views = raws[0].dataset.samples, raws[0].views
    trained = {(config.epochs, len(config.trained_samples(samples))) for config in distilled}
    if trained != {(distilled[0].epochs, samples)}:
        return None
    return TeacherCost(samples, views, distilled[0].epochs, len(distilled))


def _title(stores: Mapping[str, Store], runs: Sequence[StudentRun]) -> str:
    title = f"Report on {join_names(list(stores))}"
    return f"{title} and {counted(len(runs), 'run')}" if runs else title


def _introduction(stores: Sequence[StoreOnDisk]) -> str:
    """Return sentences on which teachers were cached, and on which views."""
    sentences = []
    for store in stores:
        manifest = store.manifest
        sentence = (
            f"{manifest.teacher.spec} saw {counted(manifest.views, 'view')} of each of "
            f"{counted(manifest.dataset.samples, 'sample')} of {manifest.dataset.name} "
            f"{manifest.dataset.split}."
        )
        sentences.append(sentence)
    return " ".join(dict.fromkeys(sentences))


def _comparisons(methods: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Pair each method with the first."""
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
    for what, found, wanted, matches in (
        ("classes", len(dataset.classes), cached.classes, len(dataset.classes) == cached.classes),
        ("samples", len(dataset), cached.samples, len(dataset) >= cached.samples),
    ):
        if not matches:
            raise UsageError(
                f"--dataset has {found:,} {what} in its {dataset.split} split, but {raw.where} was "
                f"made from {wanted:,}: name the dataset that was cached"
            )


def _parent(manifest: Manifest) -> str | None:
    return None if manifest.correction is None else manifest.correction.parent_digest


def _setting(stores: Sequence[StoreOnDisk]) -> dict[str, str]:
    return {store.name: "; ".join(_facts(store.manifest)) for store in stores}


def _facts(manifest: Manifest) -> list[str]:
    """Return facts that distinguish a store from others."""
    augmentation, made = manifest.augmentation, manifest.correction
    versions = ", ".join(f"{name} {text}" for name, text in manifest.provenance.versions.items())
    kind = "raw" if made is None else f"{manifest.kind}, by {made.name}"
    return [
        f"{kind}, {manifest.encoding}",
        f"views of {augmentation.name}, seed {augmentation.seed}",
        f"on {manifest.provenance.device}, {versions}",
        f"digest {manifest.digest}",
    ]
