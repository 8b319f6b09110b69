"""What a run learns from: naming it, and holding a store against the dataset."""

from __future__ import annotations

import numpy as np

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.datasets.imported import MapStyleDataset
from logitbank.pipeline.models import LoadedModel, state_sha256
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.stores.errors import StoreError, UsageError


def learned_from(
    dataset: ImageDataset, soft_labels: SoftLabels | None, teacher: LoadedModel | None
) -> dict[str, str | None]:
    """Name what a run learns from, by digests: a run that is resumed must find the same."""
    return {
        "dataset": dataset.fingerprint if _has_cheap_ids(dataset) else None,
        "soft labels": soft_labels.manifest.digest if soft_labels is not None else None,
        "teacher": state_sha256(teacher.module) if teacher is not None else None,
    }


def check_store(soft: SoftLabels, dataset: ImageDataset, limit: int | None) -> ImageDataset:
    """Require that a store was made from this very dataset.

    Args:
        soft: the store.
        dataset: the whole split.
        limit: how many samples are to be trained on, the first ones; None for all.

    Returns:
        The dataset cut to the samples that the store holds.

    Raises:
        StoreError: another number of classes, other samples or targets (what differs is said), or
            fewer samples than are to be trained on.
    """
    stored, where = soft.manifest.dataset, soft.store.where
    named = f"{dataset.name} {dataset.split}"
    if stored.classes != len(dataset.classes):
        raise StoreError(
            f"{where} holds {stored.classes} classes, but {named} has {len(dataset.classes)}"
        )
    if stored.samples > len(dataset):
        raise StoreError(
            f"{where} holds {stored.samples} samples of {stored.name} {stored.split}, but {named} "
            f"has {len(dataset)}"
        )
    cut = dataset if stored.samples == len(dataset) else dataset.head(stored.samples)
    if _has_cheap_ids(cut) and cut.fingerprint != stored.fingerprint:
        raise StoreError(
            f"{where} was made from {stored.name} {stored.split} with fingerprint "
            f"{stored.fingerprint[:12]}, but {named} has {cut.fingerprint[:12]}: "
            f"{_what_differs(soft, cut)}"
        )
    wanted = len(dataset) if limit is None else limit
    if wanted > stored.samples:
        raise StoreError(
            f"{where} holds the first {stored.samples} samples, but {wanted} of {named} are to be "
            f"trained on: say --limit {stored.samples}"
        )
    return cut


def check_size(name: str, view_size: int, student: str, input_size: int) -> None:
    """Require views of the student's input size; UsageError otherwise."""
    if view_size != input_size:
        raise UsageError(
            f"{name} makes views of {view_size} × {view_size}, but {student} takes images of "
            f"{input_size} × {input_size}"
        )


def check_evaluation_classes(dataset: ImageDataset, evaluation: ImageDataset) -> None:
    """Require that the evaluation split numbers its classes as the training split does.

    It may lack the last ones: a dataset without class names knows only those it has samples of.

    Raises:
        UsageError: it doesn't.
    """
    for number, name in enumerate(evaluation.classes):
        own = dataset.classes[number] if number < len(dataset.classes) else "absent"
        if name != own:
            raise UsageError(
                f"class {number} is {name!r} in {evaluation.name} {evaluation.split}, but {own!r} "
                f"in {dataset.name} {dataset.split}: they can't be compared"
            )


def _has_cheap_ids(dataset: ImageDataset) -> bool:
    """Tell where ids would take reading every image: a user's own dataset.

    Such a dataset goes unnamed; each of its views is held against the store's checksums anyway.
    """
    return not isinstance(dataset, MapStyleDataset) or dataset.has_cheap_ids


def _what_differs(soft: SoftLabels, dataset: ImageDataset) -> str:
    """Tell changed images, another order and changed targets apart."""
    cached, here = soft.store.sample_id, dataset.sample_ids
    others = np.flatnonzero(cached != here)
    if not len(others):
        cached_targets, targets = soft.store.target, dataset.targets
        relabelled = np.flatnonzero(cached_targets != targets)
        first = int(relabelled[0])
        return (
            f"{len(relabelled)} targets differ, first that of {dataset.where(first)}: "
            f"{cached_targets[first]} when it was cached, {targets[first]} now"
        )
    first = int(others[0])
    if np.array_equal(np.sort(cached), np.sort(here)):
        return f"the same images in another order, first {dataset.where(first)}"
    return f"{len(others)} of {len(cached)} images are others, first {dataset.where(first)}"
