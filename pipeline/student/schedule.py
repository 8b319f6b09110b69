"""The learning rate by epoch, and the published epochs of its drops."""

from __future__ import annotations

import math

from logitbank.pipeline.student.config import TrainConfig

CIFAR_DROPS = (150, 180, 210, 240)
"""The last epochs, from 1, before a drop of the rate on CIFAR-100; then all epochs."""

IMAGENET_DROPS = (30, 60, 90, 100)
"""The same on ImageNet."""

WARMUP_LR = 1e-5
"""The rate that a warm-up begins with, timm's default."""


def scaled_milestones(published: tuple[int, ...], epochs: int) -> tuple[int, ...]:
    """Scale the published epochs of the drops, the last entry being all epochs, to `epochs`.

    Published epochs count from 1 and name the last one before a drop; counted from 0 the same
    number is the first one after it. Fractions are rounded up, so that no drop comes early.

    >>> scaled_milestones((150, 180, 210, 240), 240)
    (150, 180, 210)
    >>> scaled_milestones((150, 180, 210, 240), 10)
    (7, 8, 9)
    """
    *drops, total = published
    return tuple(math.ceil(drop * epochs / total) for drop in drops)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Return the rate of an epoch, counted from 0.

    `step`: a tenth of it for each milestone reached. `cosine`: half a cosine from the rate at epoch
    0 down to what would be 0 after the last one. The warm-up rises evenly from `WARMUP_LR` over its
    epochs and takes their place: the schedule goes on as if it had run meanwhile. All as timm has
    it, by the epoch.
    """
    if epoch < config.warmup_epochs:
        return WARMUP_LR + (config.lr - WARMUP_LR) * epoch / config.warmup_epochs
    if config.sched == "cosine":
        return config.lr * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    drops = sum(milestone <= epoch for milestone in config.milestones or ())
    return config.lr / 10**drops
