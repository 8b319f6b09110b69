"""The learning rate by epoch, and how long and how fast the published students learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from logitbank.pipeline.losses.published import network_name
from logitbank.pipeline.student.config import TrainConfig


@dataclass(frozen=True)
class PublishedRun:
    """How students were trained for the tables of a benchmark, whatever the loss.

    `drops` are the last epochs, from 1, before a drop of the rate; then all epochs. `lr_by_student`
    are rates of the networks that begin with these names, where they differ.
    """

    benchmark: str
    datasets: frozenset[str]
    drops: tuple[int, ...]
    batch_size: int
    lr: float
    weight_decay: float
    lr_by_student: Mapping[str, float] = field(default_factory=dict)

    def settings(self, student: str) -> dict[str, Any]:
        """Return the settings of a run by the names of `TrainConfig`'s fields.

        Args:
            student: its spec.
        """
        name = network_name(student)
        rates = (lr for begin, lr in self.lr_by_student.items() if name.startswith(begin))
        return {
            "epochs": self.drops[-1],
            "batch_size": self.batch_size,
            "lr": next(rates, self.lr),
            "weight_decay": self.weight_decay,
        }


CIFAR_RUN = PublishedRun(
    benchmark="CIFAR-100",
    datasets=frozenset({"cifar100"}),
    drops=(150, 180, 210, 240),
    batch_size=64,
    lr=0.05,
    weight_decay=5e-4,
    lr_by_student={"mobilenetv2": 0.01, "shufflev1": 0.01, "shufflev2": 0.01},
)

IMAGENET_RUN = PublishedRun(
    benchmark="ImageNet",
    datasets=frozenset({"imagenet"}),
    drops=(30, 60, 90, 100),
    batch_size=512,
    lr=0.2,
    weight_decay=1e-4,
)


def published_run(in_memory: bool) -> PublishedRun:
    """Return CIFAR-100's run for small images in memory, ImageNet's for image files."""
    return CIFAR_RUN if in_memory else IMAGENET_RUN


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
    epochs and takes their place: the schedule goes on as if it had run meanwhile. All as in timm,
    by the epoch.
    """
    if epoch < config.warmup_epochs:
        return WARMUP_LR + (config.lr - WARMUP_LR) * epoch / config.warmup_epochs
    if config.sched == "cosine":
        return config.lr * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    drops = sum(milestone <= epoch for milestone in config.milestones or ())
    return config.lr / 10**drops
