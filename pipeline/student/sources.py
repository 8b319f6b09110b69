"""What a run learns from: its digests, and comparing a store with the dataset."""

from __future__ import annotations

import dataclasses

import numpy as np

from logitbank.pipeline.datasets import ImageDataset, weak_augmentation
from logitbank.pipeline.datasets.imported import MapStyleDataset
from logitbank.pipeline.losses import loss_class
from logitbank.pipeline.models import LoadedModel, state_sha256
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.resolution import loss_of, resolved
from logitbank.pipeline.views.specs import AUGMENTATIONS
from logitbank.stores.encodings import encoding_named
from logitbank.stores.errors import StoreError, UsageError


def resolved_config(
    config: TrainConfig,
    dataset: ImageDataset,
    stores: tuple[SoftLabels, ...],
    teacher: LoadedModel | None,
) -> TrainConfig:
    """Fill what is None in a configuration by what there is to learn from.

    Args:
        config: what was asked for.
        dataset: the whole split.
        stores: none, one, or a pair.
        teacher: a teacher in the loop, whose logits are raw.

    Raises:
        UsageError: as `resolution.resolved`; or another number of stores than the loss learns
            from, or some that it refuses; or strong views are asked for, or needed, where there
            can't be any.
    """
    spec = stores[0].manifest.teacher.spec if stores else None
    if teacher is not None:
        spec = teacher.spec
    config = resolved(
        config,
        in_memory=dataset.images is not None,
        has_soft_labels=spec is not None,
        teacher=spec,
        correction=None if teacher is not None else _correction(config, stores),
    )
    _require_accepted(config, stores, teacher)
    _require_views(config)
    _require_stores(config, stores)
    if loss_of(config).views == 2 and not stores:
        strong = config.strong_augmentation or _strong_augmentation(config, dataset)
        return dataclasses.replace(config, strong_augmentation=strong)
    if config.strong_augmentation is not None:
        raise UsageError(
            f"--strong-augmentation {config.strong_augmentation}: strong views are drawn for a "
            "teacher in the loop by a loss that learns from both, without --soft-labels, whose "
            "views are their own"
        )
    return config


def stores_for_loss(config: TrainConfig, stores: tuple[SoftLabels, ...]) -> tuple[SoftLabels, ...]:
    """Return the stores as the loss takes them: SLD's raw ones swapped as they are read.

    Args:
        config: resolved.
        stores: none, one, or a pair.
    """
    wanted = config.teacher_correction
    return tuple(
        soft.corrected(wanted) if wanted is not None and soft.corrected_by is None else soft
        for soft in stores
    )


def require_chunks(
    config: TrainConfig,
    stores: tuple[SoftLabels, ...],
    teacher: LoadedModel | None,
    epochs: range,
) -> int:
    """Check that all that these epochs will read of the stores exists, before their first step.

    Args:
        config: resolved.
        stores: as the loss takes them.
        teacher: a teacher in the loop, with which no logits are read.
        epochs: those that are still to be trained.

    Returns:
        The number of chunks.

    Raises:
        StoreError: a chunk is missing or of another size.
    """
    arrays = ["view_params"]
    if config.verify_pixels != "off":
        arrays.append("pixel_crc")
    learns = teacher is None and loss_of(config).needs_teacher
    return sum(
        soft.require_epochs(
            epochs,
            seed=config.seed,
            arrays=[*soft.store.row_arrays, *arrays] if learns else arrays,
        )
        for soft in stores
    )


def _correction(config: TrainConfig, stores: tuple[SoftLabels, ...]) -> str | None:
    """Return the correction of the stores' logits before the loss: theirs, or the loss's own."""
    if not stores or config.loss is None:
        return stores[0].corrected_by if stores else None
    return stores[0].corrected_by or loss_class(config.loss).own_correction


def _require_accepted(
    config: TrainConfig, stores: tuple[SoftLabels, ...], teacher: LoadedModel | None
) -> None:
    """Require stores that the loss accepts; beside a teacher in the loop they give views alone."""
    loss = loss_of(config)
    for soft in stores:
        manifest, reason = soft.manifest, None
        if manifest.augmentation.is_mixed:
            reason = loss.refusal_of_mixed(manifest.augmentation.name)
        if reason is None and loss.needs_teacher and teacher is None:
            encoding = encoding_named(manifest.encoding)
            reason = loss.refusal(encoding, config.teacher_correction)
        if reason is not None:
            raise UsageError(f"{soft.store.where}: --loss {config.loss} {reason}")


def _require_views(config: TrainConfig) -> None:
    """Require strong views of a teacher in the loop that are not of two images each."""
    strong = config.strong_augmentation
    if strong is not None and "+" in strong.partition(":")[0]:
        raise UsageError(
            f"--strong-augmentation {strong}: the two views of an image would be mixed with "
            "different others: name one without MixUp and CutMix"
        )


def _require_stores(config: TrainConfig, stores: tuple[SoftLabels, ...]) -> None:
    """Check that there are as many stores, if any, as the loss learns from."""
    wanted = loss_of(config).views
    where = " and ".join(soft.store.where for soft in stores)
    if stores and len(stores) < wanted:
        raise UsageError(
            f"--loss {config.loss} learns from a weak and a strong view of each image, but "
            f"{where} holds one of them: give --soft-labels WEAK STRONG, two stores of one teacher"
        )
    if len(stores) > wanted:
        raise UsageError(
            f"--loss {config.loss} learns from one view of each image: give one of {where}, or a "
            "loss that learns from both, such as sld and mlkd"
        )


def _strong_augmentation(config: TrainConfig, dataset: ImageDataset) -> str:
    """Return the strong augmentation that goes with the dataset's weak one."""
    name = weak_augmentation(dataset).replace("weak", "strong")
    if name not in AUGMENTATIONS:
        raise UsageError(
            f"--loss {config.loss} learns from strong views as well, and there is no {name}: give "
            "--soft-labels WEAK STRONG, whose views are then seen, or --strong-augmentation SPEC"
        )
    return name


def learned_from(
    dataset: ImageDataset, stores: tuple[SoftLabels, ...], teacher: LoadedModel | None
) -> dict[str, str | None]:
    """Return the digests of what a run learns from: a resumed run must find the same."""
    digests = [soft.manifest.digest for soft in stores] or [None]
    return {
        "dataset": dataset.fingerprint if _has_cheap_ids(dataset) else None,
        **dict(zip(("soft labels", "strong soft labels"), digests, strict=False)),
        "teacher": state_sha256(teacher.module) if teacher is not None else None,
    }


def check_store(soft: SoftLabels, dataset: ImageDataset, trained: range) -> ImageDataset:
    """Check that a store was made from this very dataset.

    Args:
        soft: the store.
        dataset: the whole split.
        trained: the samples that are to be trained on.

    Returns:
        The dataset cut to the samples that the store holds.

    Raises:
        StoreError: another number of classes, other samples or targets (the message says what
            differs), or fewer samples than are to be trained on.
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
    if trained.stop > stored.samples:
        left = stored.samples - trained.start
        raise StoreError(
            f"{where} holds the first {stored.samples} samples, but {len(trained)} of {named} are "
            "to be trained on"
            + (f" after {trained.start}" if trained.start else "")
            + (f": use --limit {left}" if left > 0 else ": lower --skip")
        )
    return cut


def check_size(name: str, view_size: int, student: str, input_size: int) -> None:
    """Raise UsageError unless views have the student's input size."""
    if view_size != input_size:
        raise UsageError(
            f"{name} makes views of {view_size} × {view_size}, but {student} takes images of "
            f"{input_size} × {input_size}"
        )


def check_evaluation_classes(dataset: ImageDataset, evaluation: ImageDataset) -> None:
    """Check that the evaluation split numbers its classes as the training split does.

    The last ones may be missing: a dataset without class names knows only those it has samples of.

    Raises:
        UsageError: it does not.
    """
    for number, name in enumerate(evaluation.classes):
        own = dataset.classes[number] if number < len(dataset.classes) else "absent"
        if name != own:
            raise UsageError(
                f"class {number} is {name!r} in {evaluation.name} {evaluation.split}, but {own!r} "
                f"in {dataset.name} {dataset.split}: they can't be compared"
            )


def _has_cheap_ids(dataset: ImageDataset) -> bool:
    """Return whether ids are known without reading every image, as in a user's own dataset.

    A dataset without them has no digest; each of its views is compared with the store's checksums
    anyway.
    """
    return not isinstance(dataset, MapStyleDataset) or dataset.has_cheap_ids


def _what_differs(soft: SoftLabels, dataset: ImageDataset) -> str:
    """Return which it is: changed images, another order or changed targets."""
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
    return f"{len(others)} of {len(cached)} images are different, first {dataset.where(first)}"
