"""Filling in what a configuration leaves open, as published; and building its loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.devices import usable_device
from logitbank.pipeline.losses import DatasetKind, Loss, loss_class, published_loss
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.schedule import published_run, scaled_milestones
from logitbank.stores.errors import UsageError
from logitbank.stores.importing import IMPORT

_FIELDS = {"ce": "ce_weight", "kd": "kd_weight", "temperature": "temperature"}
"""The settings of losses that have a field and a flag of their own; others: `loss_settings`."""


def resolved(
    config: TrainConfig,
    *,
    in_memory: bool,
    has_soft_labels: bool,
    teacher: str | None = None,
    correction: str | None = None,
) -> TrainConfig:
    """Fill what is None in a configuration, but for `limit`, `threads` and the specs.

    Args:
        config: what was asked for.
        in_memory: whether the dataset is one of small images, as CIFAR, rather than of files, as
            ImageNet: the published settings differ.
        has_soft_labels: whether there is a store or a teacher to learn from.
        teacher: the spec of the network whose logits are learned from; some settings are published
            by pair.
        correction: the correction of these logits, None for raw ones.

    Raises:
        UsageError: a distillation loss with nothing to distil, a setting that the loss does not
            have, drops of another schedule, or mixed precision without CUDA.
    """
    device = usable_device(config.device)
    if config.amp and device.type != "cuda":
        raise UsageError(f"--amp needs a CUDA device, this run is on {device}")
    name = config.loss or ("kd" if has_soft_labels else "ce")
    if loss_class(name).needs_teacher and not has_soft_labels:
        raise UsageError(f"--loss {name} needs --soft-labels STORE or --teacher SPEC")
    drops = published_run(in_memory).drops
    milestones = _milestones(config, drops)
    loss = published_loss(
        name,
        DatasetKind.CIFAR if in_memory else DatasetKind.IMAGENET,
        teacher=teacher,
        student=config.student,
        first_drop=(milestones or scaled_milestones(drops, config.epochs))[0],
    )
    loss = loss.scaled(config.epochs, drops[-1]).on_logits(correction)
    loss = _changed(loss, given_settings(config), correction)
    return dataclasses.replace(
        config,
        device=str(device),
        milestones=milestones,
        teacher_correction=correction if loss.needs_teacher else None,
        loss=name if name.startswith(IMPORT) else loss.name,
        **_as_fields(loss),
    )


def with_published_run(
    config: TrainConfig, dataset: ImageDataset, given: Collection[str]
) -> tuple[TrainConfig, str | None]:
    """Fill epochs, batch size, rate and weight decay as published for a dataset.

    Args:
        config: what was asked for.
        dataset: any split of the dataset.
        given: the names of the fields that were asked for, which stay.

    Returns:
        The configuration, and a line that says what was filled in, None where nothing was.
    """
    run = published_run(dataset.images is not None)
    settings = {
        name: value for name, value in run.settings(config.student).items() if name not in given
    }
    if not settings:
        return config, None
    words = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())
    if dataset.name in run.datasets:
        line = f"as published for {run.benchmark}: {words}"
    else:
        line = f"nothing is published for {dataset.name}, so as for {run.benchmark}: {words}"
    return dataclasses.replace(config, **settings), line


def loss_of(config: TrainConfig) -> Loss:
    """Build the loss of a resolved configuration.

    Raises:
        UsageError: there is no such loss, or it does not have these settings.
    """
    assert config.loss is not None, "resolved"
    settings = given_settings(config)
    return published_loss(config.loss, DatasetKind.CIFAR).with_settings(**settings)


def given_settings(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration's settings of the loss, by the loss's own names.

    Raises:
        UsageError: a setting is given twice, with two values.
    """
    given: dict[str, Any] = dict(config.loss_settings)
    for name, field in _FIELDS.items():
        value = getattr(config, field)
        if value is None:
            continue
        if name in given and float(given[name]) != value:
            raise UsageError(
                f"--{field.replace('_', '-')} {value:g} and --loss-setting {name}={given[name]} "
                "are the same setting: give one of them"
            )
        given[name] = value
    return given


def _changed(loss: Loss, given: dict[str, Any], correction: str | None) -> Loss:
    """Replace published settings by the user's.

    Raises:
        UsageError: an unknown setting, a value it can't have, or one that follows the logits (SLD's
            `swap_teacher`) and contradicts the store's.
    """
    found = loss.with_settings(**given)
    usual, own = dataclasses.asdict(found.on_logits(correction)), dataclasses.asdict(found)
    for name, value in usual.items():
        if own[name] != value:
            raise UsageError(
                f"{loss.name}: {name} follows the store's manifest, here {value}: a raw store is "
                "swapped as it is read, a corrected one is taken as it is, and the loss swaps the "
                "logits of a teacher in the loop"
            )
    return found


def _as_fields(loss: Loss) -> dict[str, Any]:
    """Return all of a loss's settings as a configuration's fields hold them."""
    settings = dataclasses.asdict(loss)
    fields = {field: settings.pop(name, None) for name, field in _FIELDS.items()}
    return {**fields, "loss_settings": settings}


def _milestones(config: TrainConfig, drops: tuple[int, ...]) -> tuple[int, ...]:
    if config.sched != "step":
        if config.milestones:
            raise UsageError(f"--milestones are drops of --sched step, this is {config.sched}")
        return ()
    if config.milestones is not None:
        return config.milestones
    return scaled_milestones(drops, config.epochs)
